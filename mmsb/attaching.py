"""mmsb.attach(): from a path or a name to a View of what another process owns."""

from __future__ import annotations

import os

from mmsb._core.files import Files
from mmsb.errors import NotAStoreError
from mmsb.rendezvous import key_of_name, key_of_store
from mmsb.sharedlog import identity_of
from mmsb.store import explain
from mmsb.view import View


def attach(target: str | os.PathLike[str], *, timeout: float = 5.0) -> View:
    """Attaches to a State that another process owns and serves (State.serve), for reading.

    target: the directory of its store, or the name it was opened with. timeout: seconds that the owner may take to
    answer. Raises OwnerGoneError when nobody serves it, NotAStoreError, BusyError when every place is taken or the
    owner does not answer, FormatVersionError, AttachError.
    """
    text = os.fsdecode(target)
    return View(key_of(text, is_path=not isinstance(target, str)), text, timeout)


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
