"""Checkpoint files: reading one, and those of a store.

What a file says of its own size is compared with what is there before memory is taken for it.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from mmsb._core.files import Files
from mmsb.checkpoint import (
    BLOCK,
    CHAIN_MOST,
    HEAD_BYTES,
    Image,
    damaged,
    decode_head,
    decode_image,
    encode_image,
    is_live,
    take,
)
from mmsb.errors import ArenaFullError, CorruptCheckpointError, MMSBError
from mmsb.log import room_for
from mmsb.metadata import METADATA_BYTES_MOST

if TYPE_CHECKING:
    from mmsb.state import State
    from mmsb.store import Store

DESCRIPTION_BYTES_MOST = 1 << 36
PAGE_HEAD_BYTES_MOST = 40  # four varints


def read_file(files: Files, path: str, max_bytes: int | None = None) -> Image:
    """Reads one file as decode_image(), after a look at the heads of its blocks: no memory is taken for a file that
    cannot be right. ArenaFullError when its pages are more than `max_bytes`.
    """
    fd = files.open(path, os.O_RDONLY)
    try:
        size = files.size(fd)
        _, description_bytes, blocks, count = decode_head(files.pread(fd, HEAD_BYTES, 0), path)
        at, raw_bytes = HEAD_BYTES + description_bytes, 0
        for _ in range(blocks):
            head = files.pread(fd, BLOCK.size, at) if at < size else b""
            if len(head) < BLOCK.size:
                raise damaged(path, min(at, size), "it is cut")
            raw, stored, _, pages = BLOCK.unpack(head)
            if not pages or stored > raw + (raw >> 7) + 64:
                raise damaged(path, at, "a block contradicts itself")
            at += BLOCK.size + stored
            raw_bytes += raw
        if at != size - 32:
            raise damaged(path, min(at, size), "its length is not what its blocks say")
        if max_bytes is not None and raw_bytes > max_bytes + count * PAGE_HEAD_BYTES_MOST:
            raise ArenaFullError(
                f"The pages of the checkpoint {path} are more than the max_bytes of {max_bytes}. Open it with a larger "
                "max_bytes.",
                needed_bytes=raw_bytes,
            )
        most = DESCRIPTION_BYTES_MOST if max_bytes is None else max_bytes + METADATA_BYTES_MOST
        return decode_image(files.pread(fd, size, 0), path, most)
    finally:
        files.close(fd)


def read_image(files: Files, path: str, max_bytes: int | None = None) -> Image:
    """Reads a full checkpoint file."""
    image = read_file(files, path, max_bytes)
    if image.parent_seq:
        raise damaged(path, 0, "it is incremental and needs the store that it came from")
    return image


class Checkpoints:
    """The checkpoint files of a store."""

    def __init__(self, store: Store, files: Files, every_bytes: int | None, max_bytes: int | None = None) -> None:
        self.store = store
        self.files = files
        self.every_bytes = every_bytes
        self.max_bytes = max_bytes
        self.lock = threading.RLock()  # held while files are written or deleted
        self.last: Image | None = None  # the newest one, its pages' epochs known
        self.known: dict[int, tuple[int, int]] = {}
        self.chain = 0
        self.skipped: list[CorruptCheckpointError] = []
        self.images: dict[int, Image] = {}

    def path(self, seq: int) -> str:
        """Of the checkpoint at `seq`."""
        return os.path.join(self.store.path, "checkpoints", f"{seq:020d}.ckpt")

    def head(self, seq: int) -> Image:
        """What the header of a checkpoint says: an Image without pages. CorruptCheckpointError, FormatVersionError."""
        path = self.path(seq)
        try:
            data = self.files.read_start(path, HEAD_BYTES)
        except OSError as error:
            raise damaged(path, 0, f"it cannot be read ({error})") from error
        return self.owned(decode_head(data, path)[0], seq)

    def owned(self, image: Image, seq: int) -> Image:
        """The image, or CorruptCheckpointError when it is that of another store or seq."""
        if image.uuid != self.store.uuid or image.seq != seq:
            raise damaged(self.path(seq), 0, "it belongs to another store or seq")
        return image

    def load(self, seq: int) -> Image:
        """The complete Image of a checkpoint, its parents read as far as needed. CorruptCheckpointError."""
        known = self.images.get(seq)
        if known is not None:
            return known
        image = last = self.read(seq)
        for _ in range(CHAIN_MOST):
            if not last.parent_seq:
                break
            # Asked once: another thread may put it there while this one reads only what the file itself holds.
            complete = self.images.get(last.parent_seq)
            last = complete or self.read(last.parent_seq)
            for page_id, (size, epoch, kind, content) in last.pages.items():
                if page_id not in image.pages and is_live(image, page_id):
                    # Copied, so that blocks of which little is needed are not kept.
                    image.pages[page_id] = (size, epoch, kind, bytes(content))
            if complete is not None:
                break
        else:
            if last.parent_seq:
                raise damaged(self.path(seq), 0, "it builds on more checkpoints than there can be")
        if len(image.pages) != sum(end - first for first, end in image.live):
            absent = next(
                page_id for first, end in image.live for page_id in range(first, end) if page_id not in image.pages
            )
            raise damaged(self.path(seq), 0, f"page {absent} is in none of the checkpoints that it builds on")
        self.images = {seq: image}  # one is kept: they are as large as the state
        return image

    def newest(self) -> Image | None:
        """The newest usable checkpoint; damaged ones are skipped and kept in `skipped`."""
        image = self.before(1 << 63)
        if image is not None:
            self.remember(image, {page_id: (page[1], page[0]) for page_id, page in image.pages.items()})
            self.chain = self.length(image)
        return image

    def read(self, seq: int) -> Image:
        """The Image of one file. CorruptCheckpointError, ArenaFullError."""
        path = self.path(seq)
        try:
            return self.owned(read_file(self.files, path, self.max_bytes), seq)
        except OSError as error:
            if isinstance(error, MMSBError):
                raise
            raise damaged(path, 0, f"it cannot be read ({error})") from error

    def length(self, image: Image) -> int:
        """How many checkpoints an image builds on."""
        count = 0
        while image.parent_seq:
            image = self.head(image.parent_seq)
            count += 1
        return count

    def before(self, seq: int) -> Image | None:
        """The newest usable checkpoint not after `seq`."""
        for at, _ in reversed(self.store.checkpoint_paths()):
            if at > seq:
                continue
            try:
                return self.load(at)
            except CorruptCheckpointError as error:
                self.skipped.append(error)
        return None

    def base(self, *, read_only: bool) -> Image | None:
        """The checkpoint that begins a compacted (or forked) history, None when all of it is there.

        It is the truth about what came before it: CorruptCheckpointError when it is damaged and the log does not
        reach back to the beginning. A reader is then shown what follows the oldest other checkpoint.
        """
        image, broken = self.newest_base()
        if image is not None:
            return image
        segments = self.store.segment_paths()
        if segments[0][0] == 1 if segments else broken is None and not self.store.identity.parent_seq:
            return None
        if broken is None:
            broken = damaged(
                os.path.join(self.store.path, "checkpoints"),
                0,
                "history before the first segment is gone, and so is the checkpoint that stood for it",
            )
        for seq, _ in self.store.checkpoint_paths() if read_only else []:
            try:
                image = self.load(seq)
            except CorruptCheckpointError:
                continue
            self.skipped.append(broken)
            return image
        raise broken

    def newest_base(self) -> tuple[Image | None, CorruptCheckpointError | None]:
        """The newest usable checkpoint that calls itself a base, and the first error met on the way to it."""
        broken: CorruptCheckpointError | None = None
        for seq, _ in reversed(self.store.checkpoint_paths()):
            try:
                if self.head(seq).base:
                    return self.load(seq), broken
            except CorruptCheckpointError as error:
                broken = broken or error
        return None, broken

    def remember(self, image: Image, epochs: dict[int, tuple[int, int]]) -> None:
        """`image` is the newest checkpoint now."""
        self.last = image
        self.known = epochs
        self.chain = self.chain + 1 if image.parent_seq else 0

    def position(self, state: State) -> int:
        """Bytes of log since the last checkpoint."""
        log = state._log
        log.settle()
        last = self.last
        if last is None:
            return log.bytes_used()
        return sum(
            segment.tail - (last.offset if segment.number == last.segment else 0)
            for segment in log.segments
            if segment.number >= last.segment
        )

    def due(self, state: State) -> bool:
        """Whether an automatic checkpoint is to be taken."""
        return self.every_bytes is not None and self.position(state) >= self.every_bytes

    def pays(self, state: State) -> bool:
        """Whether closing should take one: replaying what came since would take longer than a moment."""
        since = state.seq - (self.last.seq if self.last is not None else 0)
        return since > 0 and (since >= 10_000 or self.position(state) >= 1 << 20)

    def write(self, state: State, *, full: bool = False) -> int:
        """Takes and writes a checkpoint; a full one when asked for, or when the chain is long. Returns its seq."""
        with self.lock, state._timed("checkpoint"):
            if state.seq == 0 or (self.last is not None and self.last.seq == state.seq and not full):
                return state.seq  # it is there, or needs none: the empty state
            incremental = self.last is not None and not full and self.chain + 1 < CHAIN_MOST
            image, pages = take(state, self.known if incremental else None)
            changed = sum(page[0] for page in pages.values())
            if incremental and self.last is not None and changed * 2 <= sum(size for _, size in image.epochs.values()):
                image.parent_seq = self.last.seq if self.last.seq < image.seq else 0
            elif incremental:
                image, pages = take(state)
            base = state._log.base
            image.base = isinstance(base, Image) and base.seq == image.seq
            # The log up to here must be as durable as the checkpoint that points into it.
            state._log.sync(state)
            path, data = self.path(image.seq), encode_image(image, pages)
            with room_for(path, len(data)):
                self.store.folder("checkpoints")
                self.files.write_file(path, data)
            self.images.clear()
            self.remember(image, image.epochs)
        state._announce("checkpoint_created", image.seq, self.path(image.seq))
        return image.seq
