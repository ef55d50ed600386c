"""Records Gymnasium environments into mmsb."""

__version__ = "0.1.0"
