"""zstandard for checkpoints and sealed segments. Every size is checked before memory is taken for it."""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections import deque
from typing import Any

from mmsb._core.files import Files
from mmsb.errors import CorruptLogError

LEVEL = 3
RATIO_MOST = 1 << 16  # no honest frame of ours expands more


class Codecs(threading.local):
    """The compressors and the decompressor of one thread: making one takes longer than a small block does."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}

    def compressor(self, level: int) -> Any:
        """Of frames that state their size."""
        import zstandard

        if level not in self.made:
            self.made[level] = zstandard.ZstdCompressor(level=level, write_content_size=True)
        return self.made[level]

    def decompressor(self) -> Any:
        """Of what compressors make."""
        import zstandard

        if 0 not in self.made:
            self.made[0] = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return self.made[0]


codecs = Codecs()


def compress_block(data: bytes, level: int = 1) -> bytes:
    """One frame that states its size."""
    packed: bytes = codecs.compressor(level).compress(data)
    return packed


def decompress_block(data: bytes, size: int | None = None, limit: int = 1 << 40) -> bytes:
    """The content of one frame, which must have `size` bytes when given. ValueError otherwise.

    The size that the frame states is compared before anything is allocated: zstandard itself takes it at its word.
    """
    import zstandard

    try:
        stated = zstandard.frame_content_size(data)
        if stated < 0 or stated > min(limit, (len(data) + 64) * RATIO_MOST) or size not in (None, stated):
            raise ValueError(f"a compressed block states {stated} bytes")
        content: bytes = codecs.decompressor().decompress(data, allow_extra_data=False)
        return content
    except zstandard.ZstdError as error:
        raise ValueError(f"a compressed block cannot be read ({error})") from error


def decompress(data: bytes, limit: int, path: str) -> bytes:
    """The bytes of a compressed segment of at most `limit` bytes. CorruptLogError."""
    try:
        return decompress_block(data, None, limit)
    except ValueError as error:
        raise CorruptLogError(
            f"{path} is damaged: {error}. Restore the file from a backup.",
            path=path,
            offset=0,
            seq=None,
            reason=str(error),
        ) from error


def decompress_readable(data: bytes, limit: int) -> tuple[bytes, bool]:
    """What can be had of a compressed segment, at most `limit` bytes, and whether that is all of it."""
    import zstandard

    out = bytearray()
    stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data)
    try:
        while len(out) < limit and (some := stream.read(min(1 << 17, limit - len(out)))):
            out += some
        return bytes(out), len(out) == zstandard.frame_content_size(data)
    except zstandard.ZstdError:
        return bytes(out), False


def decompress_head(files: Files, path: str, count: int) -> bytes:
    """The first `count` bytes of a compressed segment."""
    import zstandard

    data = files.read_start(path, 1 << 18)
    try:
        # A stream: no more is made of a small file that claims to be a large one.
        return bytes(zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data).read(count))
    except zstandard.ZstdError as error:
        raise CorruptLogError(
            f"{path} is damaged: {error}. Restore the file from a backup.",
            path=path,
            offset=0,
            seq=None,
            reason=str(error),
        ) from error


class Compressor:
    """A thread that compresses sealed segments: aside, read back, compared, renamed; then the raw one goes.

    What fails is added to `failures`; the raw segment stays, which is as good.
    """

    def __init__(self, files: Files, failures: deque[Exception]) -> None:
        self.files = files
        self.failures = failures
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.lock = threading.Lock()  # held while files change; a compaction holds it too
        self.thread: threading.Thread | None = None

    def add(self, segment: Any) -> None:
        """A segment that is sealed and synced. One that is compressed already is passed over."""
        if segment.path.endswith(".zst"):
            return
        if self.thread is None:
            self.thread = threading.Thread(target=self.run, name="mmsb compressor", daemon=True)
            self.thread.start()
        self.jobs.put(segment)

    def stop(self) -> None:
        """Finishes what was added, then ends."""
        if self.thread is not None:
            self.jobs.put(None)
            self.thread.join()

    def run(self) -> None:
        """The thread."""
        while (segment := self.jobs.get()) is not None:
            try:
                with self.lock:
                    self.compress(segment)
            except FileNotFoundError:
                continue  # compacted away meanwhile
            except Exception as error:  # whatever it is, it must not end the thread
                self.failures.append(error)

    def compress(self, segment: Any) -> None:
        """Replaces one raw segment file by a compressed one."""
        raw_path = segment.path
        data = self.files.read_file(raw_path, segment.head.capacity)[: segment.tail]
        packed = compress_block(data, LEVEL)
        path = raw_path + ".zst"
        self.files.write_file(path, packed)
        try:
            same = decompress_block(self.files.read_file(path, len(packed)), len(data)) == data
        except ValueError:
            same = False
        if not same:
            self.files.unlink(path)
            raise OSError(errno.EIO, "the compressed segment did not read back as it was written", path)
        segment.path = path
        self.files.unlink(raw_path)
        self.files.sync_directory(os.path.dirname(path))
