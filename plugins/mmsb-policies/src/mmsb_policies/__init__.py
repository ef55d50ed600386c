"""Propagation policies for mmsb."""

__version__ = "0.1.0"
