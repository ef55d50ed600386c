"""A compiled semiring for mmsb, as an example: the greatest common divisor."""

__version__ = "0.1.0"
