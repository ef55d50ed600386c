"""Forking: a new, self-contained State that begins with another one's past or present."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mmsb.errors import NotAStoreError

if TYPE_CHECKING:
    from mmsb.state import State


def fork(state: State, at: int | str | datetime, path: Any = None) -> State:
    """A State whose first state is `state` at `at`. seq goes on from there on branch `state.branch + 1`.

    With `path` it is stored there (nothing may be there yet), else it is in memory. The store records the parent's
    uuid, seq and digest.
    """
    from mmsb.checkpoint import encode_image, image_at
    from mmsb.store import Identity

    seq = state.at(at).seq
    image = image_at(state, seq, None)
    image.branch = state.branch + 1
    image.base = True
    image.labels = []
    if path is None:
        return state._opener(_image=image)
    path = os.fspath(path)
    if os.path.lexists(path):
        raise NotAStoreError(f"{path} exists already. Fork to a new path.", path=path)
    identity = Identity(os.urandom(16), os.urandom(16), time.time_ns(), state.uuid, seq, image.digest)
    image.uuid = identity.uuid
    # The log of the fork begins with segment 2: the one before it is the base, as after a compaction.
    image.segment, image.offset = 2, 128
    image.last_crc, image.sources, image.anchor = 0, {}, bytes(32)
    return state._opener(path, _identity=identity, _base=(seq, encode_image(image, image.pages)))
