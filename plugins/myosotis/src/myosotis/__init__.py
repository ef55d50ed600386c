"""The object graph that remembers: stable identity, hash-chained commits, replay."""

from myosotis.chain import Commit
from myosotis.errors import MyosotisError
from myosotis.values import Ref

__version__ = "0.1.0"
__all__ = ["Commit", "MyosotisError", "Ref"]
