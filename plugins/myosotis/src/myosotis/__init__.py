"""The object graph that remembers: stable identity, hash-chained commits, replay."""

from myosotis.chain import Commit
from myosotis.errors import MyosotisError
from myosotis.handles import Handle
from myosotis.layout import decode_node
from myosotis.memory import Memory
from myosotis.moment import Moment
from myosotis.queries import ABSENT, Diff
from myosotis.values import Ref

__version__ = "0.1.0"
__all__ = ["ABSENT", "Commit", "Diff", "Handle", "Memory", "Moment", "MyosotisError", "Ref", "decode_node"]
