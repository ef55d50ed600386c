"""Forking: a new, self-contained State that begins with another one's past or present."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mmsb._core.log import HEADER_BYTES
from mmsb.errors import NotAStoreError

if TYPE_CHECKING:
    from mmsb._core.files import Files
    from mmsb.checkpoint import Image
    from mmsb.state import State
    from mmsb.store import Identity


def fork(state: State, at: int | str | datetime, path: Any = None) -> State:
    """A State whose first state is `state` at `at`. seq goes on from there on branch `state.branch + 1`.

    With `path` it is stored there (nothing may be there yet), else it is in memory. The store records the parent's
    uuid, seq and digest.
    """
    from mmsb.checkpoint import BRANCH_MOST, image_at
    from mmsb.store import Identity

    if path is not None and os.path.lexists(path):
        raise NotAStoreError(f"{os.fsdecode(path)} exists already. Fork to a new path.", path=path)
    if state.branch >= BRANCH_MOST:
        raise ValueError(f"There are at most {BRANCH_MOST} forks in a row. Fork a parent of this State.")
    seq = state.at(at).seq
    image = image_at(state, seq, None)
    image.branch = state.branch + 1
    if path is None:
        return state._opener(_image=image, files=state._log.files, semirings=state._own_semirings)
    identity, base = as_base(image, Identity(os.urandom(16), os.urandom(16), time.time_ns()))
    how = {"files": state._log.files, "semirings": state._own_semirings}
    return state._opener(path, _identity=identity, _base=base, **how)


def as_base(image: Image, identity: Identity) -> tuple[Identity, tuple[int, bytes]]:
    """The identity of a new store that descends from an image, and (seq, bytes) of the checkpoint it begins with."""
    from mmsb.checkpoint import encode_image

    identity = replace(identity, parent_uuid=image.uuid, parent_seq=image.seq, parent_digest=image.digest)
    # The log begins with segment 2: the base stands in for the one before, as after a compaction.
    base = replace(
        image,
        uuid=identity.uuid,
        base=True,
        anchored=True,
        parent_seq=0,
        segment=2,
        offset=HEADER_BYTES,
        last_crc=0,
        anchor=bytes(32),
        sources={},
        labels=[],
    )
    return identity, (base.seq, encode_image(base, base.pages))


def first_base(files: Files, path: str, identity: Identity) -> tuple[Identity, tuple[int, bytes]]:
    """What a store begins with that starts from the one-file checkpoint at `path`."""
    from mmsb.checkpoints import read_image

    return as_base(read_image(files, path), identity)
