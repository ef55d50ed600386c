"""mmsb.attach(): from a path or a name to a View of what another process owns."""

from __future__ import annotations

import operator
import os

from mmsb import messages
from mmsb._core.files import Files
from mmsb.errors import NotAStoreError, OwnerGoneError
from mmsb.rendezvous import key_of_name, key_of_store
from mmsb.sharedlog import identity_of
from mmsb.store import explain
from mmsb.view import View


def attach(target: str | os.PathLike[str], *, timeout: float = 5.0, ring_bytes: int = messages.RING_BYTES) -> View:
    """Attaches to a State that another process owns and serves (State.serve).

    target: the directory of its store, or the name it was opened with. timeout: seconds that the owner may take to
    answer. ring_bytes: room for commands on their way, which is there once one is sent; the longest takes half of it
    (a power of two, 4096 to 64 MiB). Raises OwnerGoneError when nobody serves it, NotAStoreError, BusyError when every
    place is taken or the owner does not answer, FormatVersionError, AttachError.
    """
    text = os.fsdecode(target)
    size = operator.index(ring_bytes)
    if not messages.RING_BYTES_LEAST <= size <= messages.RING_BYTES_MOST or size & (size - 1):
        raise ValueError(f"A ring has a power of two of bytes, 4096 to {messages.RING_BYTES_MOST}, not {size}.")
    try:
        return View(key_of(text, is_path=not isinstance(target, str)), text, timeout, size)
    except OwnerGoneError as error:
        if os.sep in text or not os.path.lexists(text) or os.path.lexists(os.path.join(text, "store")):
            raise
        raise NotAStoreError(f"{text} is no store, and nobody serves a State of that name.", path=text) from error


def key_of(text: str, *, is_path: bool) -> str:
    """What the socket of a State is called. NotAStoreError, FormatVersionError, CorruptLogError."""
    if not text:
        raise ValueError("The target is empty. Give the path of a store or the name of a State.")
    if not is_path and os.sep not in text and not os.path.exists(os.path.join(text, "store")):
        return key_of_name(text)
    if not os.path.isdir(text) or not os.path.lexists(os.path.join(text, "store")):
        raise NotAStoreError(f"There is no store at {text}. Check the path.", path=text)
    try:
        return key_of_store(identity_of(Files(), text).uuid)
    except OSError as error:
        raise explain(error, text) from error
