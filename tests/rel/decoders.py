"""Decoders written in Python under arbitrary bytes: valid files, mutated, with their checksums made right or not.

Each subject makes files, decodes one, and encodes again what was decoded. Allowed are a value that gives the same
bytes again, and the errors that the decoder promises; anything else is a finding, and so is taking long or much.
"""

from __future__ import annotations

import random
import resource
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import blake3
import zstandard

import mmsb
from mmsb import checkpoint, compression, horizon, messages, metadata
from mmsb._core import linkcodec
from mmsb._core.files import Files
from mmsb._core.log import crc32c
from mmsb.upstream import import_checkpoint, import_log, read_checkpoint, read_log
from tests.rel.programme import Run

SECONDS_MOST = 5
MEMORY_MOST = 64 << 20
TELLING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1,
           1 << 63, (1 << 64) - 1]  # fmt: skip


@dataclass
class Subject:
    """What is decoded: `seeds` are valid files; `decode` raises one of `errors`, or returns; `mend` makes checksums
    right. `decode` asserts what has to hold of a result."""

    seeds: Callable[[Path], list[bytes]]
    decode: Callable[[bytes, Path], None]
    errors: tuple[type[Exception], ...] = (mmsb.MMSBError,)
    mend: Callable[[bytes], bytes] = bytes


def mutate(data: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """A few changes: bits, bytes, numbers that overflow, cuts, repetitions, parts of other files."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
        at, kind = dice.randrange(len(out) + 1), dice.randrange(8)
        span = dice.randrange(1, 2 << dice.randrange(6))
        if kind == 0 and at < len(out):
            out[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            out[at : at + 1] = bytes([dice.choice((0, 1, 2, 0x7F, 0x80, 0xFF, dice.randrange(256)))])
        elif kind == 2:
            width = dice.choice((4, 8))
            out[at : at + width] = (dice.choice(TELLING) % (1 << 8 * width)).to_bytes(width, "little")
        elif kind == 3:
            del out[at : at + span]
        elif kind == 4:
            out[at:at] = dice.randbytes(span)
        elif kind == 5:
            out[at:at] = out[at : at + span] * dice.randrange(1, 9)
        elif kind == 6:
            del out[at:]
        else:
            other = dice.choice(others)
            begin = dice.randrange(len(other) + 1)
            out[at : at + span] = other[begin : begin + span]
    return bytes(out)


# ---- checkpoints


def checkpoint_files(work: Path) -> list[bytes]:
    with mmsb.open(work / "seeds") as state:
        state.create_page(100, name="a", metadata={"k": "v", "n": 3})
        state.create_page(40, name="b", data=bytes(range(40)))
        state.create_page(40, name="c", merge="plus-times", dtype="f4")
        state.depend("b", on=["a"], kind="control")
        with state.batch(label="here", source="me") as batch:
            batch.write("a", b"text", at=5)
        state.checkpoint()
        for n in range(3):
            state.page("a").write(bytes([n + 1]), at=n)
            state.checkpoint()
    return [path.read_bytes() for path in sorted((work / "seeds/checkpoints").iterdir())]


def mend_checkpoint(data: bytes) -> bytes:
    """Header, blocks and hash; a description or a block that is no zstandard frame is packed into one."""
    if len(data) < checkpoint.HEAD_BYTES + 32:
        return data
    head, body = data[: checkpoint.HEAD_BYTES - 4], bytearray(data[checkpoint.HEAD_BYTES : -32])
    at = checkpoint.HEAD.unpack_from(head)[-3]
    while at + checkpoint.BLOCK.size <= len(body):
        raw, stored, _, pages = checkpoint.BLOCK.unpack_from(body, at)
        begin = at + checkpoint.BLOCK.size
        checkpoint.BLOCK.pack_into(body, at, raw, stored, crc32c(bytes(body[begin : begin + stored])), pages)
        at = begin + stored
    whole = head + crc32c(head).to_bytes(4, "little") + bytes(body)
    return whole + blake3.blake3(whole).digest()


def unpack_checkpoint(data: bytes) -> bytes:
    """The same with what is compressed lying open, so that mutations reach it: lengths before each part."""
    _, description_bytes, blocks, _ = checkpoint.decode_head(data, "seed")
    at = checkpoint.HEAD_BYTES + description_bytes
    parts = [compression.decompress_block(data[checkpoint.HEAD_BYTES : at])]
    for _ in range(blocks):
        _, stored, _, pages = checkpoint.BLOCK.unpack_from(data, at)
        at += checkpoint.BLOCK.size + stored
        parts.append(struct.pack("<I", pages) + compression.decompress_block(data[at - stored : at]))
    return data[: checkpoint.HEAD_BYTES] + b"".join(struct.pack("<H", len(part)) + part for part in parts)


def pack_checkpoint(open_data: bytes) -> bytes:
    """The other way round, of anything."""
    head = bytearray(open_data[: checkpoint.HEAD_BYTES].ljust(checkpoint.HEAD_BYTES, b"\0"))
    rest, parts = open_data[checkpoint.HEAD_BYTES :], []
    while len(rest) > 2:
        count = struct.unpack_from("<H", rest)[0]
        parts.append(rest[2 : 2 + count])
        rest = rest[2 + count :]
    description = compression.compress_block(parts[0] if parts else b"")
    body = description
    for part in parts[1:]:
        stored = compression.compress_block(part[4:])
        pages = int.from_bytes(part[:4], "little")
        body += checkpoint.BLOCK.pack(len(part[4:]), len(stored), 0, pages) + stored
    fields = list(checkpoint.HEAD.unpack_from(head))
    fields[-3], fields[-2] = len(description), max(len(parts) - 1, 0)
    checkpoint.HEAD.pack_into(head, 0, *fields)
    return mend_checkpoint(bytes(head) + body + bytes(32))


def decode_checkpoint(data: bytes, work: Path) -> None:
    image = checkpoint.decode_image(data, "fuzzed")
    again = checkpoint.decode_image(checkpoint.encode_image(image, image.pages), "again")
    for image_field in ("seq", "names", "metadata", "labels", "sources", "live", "links", "anchor", "digest"):
        assert getattr(again, image_field) == getattr(image, image_field), f"{image_field} is not what was read"
    assert {n: (*p[:3], bytes(p[3])) for n, p in again.pages.items()} == {
        n: (*p[:3], bytes(p[3])) for n, p in image.pages.items()
    }, "the pages are not what was read"
    path = work / "image"
    path.write_bytes(data)
    with mmsb.open(path) as state:
        assert state.seq == image.seq
        state.digest()


# ---- the others

UUID = bytes(range(16))


def horizon_files(work: Path) -> list[bytes]:
    mark = horizon.Mark(70, 3, 4096, 12345, 1 << 60, bytes(range(32)), True)
    other = mark.encode(UUID, 6).ljust(horizon.SLOTS_AT[1], b"\0") + mark.encode(UUID, 7)
    return [horizon.initial(UUID), other]


def mend_horizon(data: bytes) -> bytes:
    out = bytearray(data)
    for at in horizon.SLOTS_AT:
        slot = bytes(out[at : at + horizon.SLOT_BYTES - 4])
        if len(slot) == horizon.SLOT_BYTES - 4:
            out[at + len(slot) : at + horizon.SLOT_BYTES] = crc32c(slot).to_bytes(4, "little")
    return bytes(out)


def decode_horizon(data: bytes, work: Path) -> None:
    for at, slot in zip(horizon.SLOTS_AT, horizon.read_slots(data, UUID), strict=True):
        if slot is None:
            continue
        counter, mark = slot
        read = data[at : at + horizon.SLOT_BYTES]
        flags = int.from_bytes(read[12:16], "little")
        assert flags > 1 or mark.encode(UUID, counter) == read, "the slot is not what was read"
    path = work / "horizon"
    path.write_bytes(data)
    horizon.Horizon(Files(), str(path), UUID, writable=False).close()


def zstd_files(work: Path) -> list[bytes]:
    """Frames of ours, and such as nobody sends in good faith: bombs, streams without a size, wide windows."""
    contents = [b"", b"a", bytes(1 << 18), bytes(range(256)) * 9]
    made = [compression.compress_block(content) for content in contents]
    made += [zstandard.ZstdCompressor(write_content_size=False).compress(content) for content in contents]
    wide = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    made.append(zstandard.ZstdCompressor(compression_params=wide).compress(bytes(1 << 16)))
    made.append(zstandard.ZstdCompressor(level=19).compress(bytes(1 << 25)))
    for size in (1 << 40, (1 << 64) - 1, (1 << 63) - 1):
        made.append(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\x01\x00\x00")
    return made


def decode_zstd(data: bytes, work: Path) -> None:
    for limit in (1 << 20, 1 << 40):
        try:
            content = compression.decompress_block(data, None, limit)
        except ValueError:
            continue
        assert len(content) <= limit, "more than the limit"
        assert compression.decompress_block(compression.compress_block(content)) == content
    path = work / "frame"
    path.write_bytes(data)
    assert len(compression.decompress_head(Files(), str(path), 128)) <= 128
    compression.decompress(data, 1 << 20, "fuzzed")


def metadata_files(work: Path) -> list[bytes]:
    many = {f"key {n}": value for n, value in enumerate((1, -(1 << 80), 0.5, True, b"\0\1", "text", ""))}
    return [metadata.encode({}), metadata.encode({"a": 1}), metadata.encode(many)]


def decode_metadata(data: bytes, work: Path) -> None:
    entries = metadata.decode(data)
    assert metadata.encode(entries) == data or data == b"", "the metadata are not what was read"


def link_files(work: Path) -> list[bytes]:
    made = []
    for kind, parents, copies in ((0, (1,), ()), (1, (2, 1 << 40), ((0, 1, 2, 3), (1, 5, 6, 7))), (2, (3,), ())):
        link = mmsb.links.Link(
            ("call", "copy", "semiring")[kind], "data", parents, "min-plus", "f8", False, b"12345678", copies, 3, 4, "f"
        )
        made.append(linkcodec.encode(link, True))
    return made


def decode_link(data: bytes, work: Path) -> None:
    link = mmsb.links.Link(*linkcodec.decode(data))
    assert linkcodec.encode(link, True) == data, "the link is not what was read"


def message_files(work: Path) -> list[bytes]:
    welcome = messages.Welcome(3, 1, 9, 4096, UUID, UUID[::-1], 1, 1 << 60, 0, "/a/store", None)
    names = messages.encode_names({1: "a", 7: "\udcff"}, {7: b"note", 9: b""})
    return [
        messages.header(messages.WELCOME, 1, 2) + welcome.encode(),
        messages.header(messages.NAMES) + names,
        messages.header(messages.REGIONS, 1, 1) + messages.ENTRY.pack(2, 1, 4096, 0),
    ]


def decode_message(data: bytes, work: Path) -> None:
    found, body = messages.split(data)
    if found.kind == messages.WELCOME:
        welcome = messages.decode_welcome(body)
        assert body.startswith(welcome.encode()), "the welcome is not what was read"
    names, notes = messages.decode_names(memoryview(body))
    assert len(names) + len(notes) <= 2 * len(body) // messages.NAME.size


def upstream_files(kind: str) -> Callable[[Path], list[bytes]]:
    golden = Path(__file__).parents[1] / "golden/upstream"
    magic = {"log": b"MMSBLOG1", "checkpoint": b"MMSBSNAP"}[kind]

    def found(work: Path) -> list[bytes]:
        files = [path.read_bytes() for path in sorted(golden.rglob("*")) if path.is_file()]
        return [data for data in files if data[:8] == magic and len(data) < 1 << 14]

    return found


def decode_upstream_log(data: bytes, work: Path) -> None:
    path = work / "log"
    path.write_bytes(data)
    for skip in (True, False):
        assert sum(1 for _ in read_log(path, skip_damage=skip)) <= len(data)
    with mmsb.open(max_bytes=MEMORY_MOST) as state:
        import_log(path, state)
        state.digest()


def decode_upstream_checkpoint(data: bytes, work: Path) -> None:
    path = work / "checkpoint"
    path.write_bytes(data)
    assert sum(page.size for page in read_checkpoint(path)) <= len(data)
    with mmsb.open(max_bytes=MEMORY_MOST) as state:
        import_checkpoint(path, state)
        state.digest()


BAD_NUMBERS = (mmsb.MMSBError, ValueError)
SUBJECTS = {
    "checkpoint": Subject(checkpoint_files, decode_checkpoint, mend=mend_checkpoint),
    "checkpoint-inside": Subject(
        lambda work: [unpack_checkpoint(data) for data in checkpoint_files(work)],
        lambda data, work: decode_checkpoint(pack_checkpoint(data), work),
    ),
    "horizon": Subject(horizon_files, decode_horizon, mend=mend_horizon),
    "zstd": Subject(zstd_files, decode_zstd),
    "metadata": Subject(metadata_files, decode_metadata),
    "links": Subject(link_files, decode_link, errors=BAD_NUMBERS),
    "messages": Subject(message_files, decode_message),
    "upstream-log": Subject(upstream_files("log"), decode_upstream_log),
    "upstream-checkpoint": Subject(upstream_files("checkpoint"), decode_upstream_checkpoint),
}


class TooLongError(Exception):
    """A decoder did not come to an end."""


def stop(signum: int, frame: object) -> None:
    """Ends what takes too long."""
    raise TooLongError


def outcome(subject: Subject, data: bytes, work: Path) -> str | None:
    """What is wrong with decoding these bytes; None: nothing."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_MOST)
    try:
        subject.decode(data, work)
    except subject.errors:
        return None
    except TooLongError:
        return f"more than {SECONDS_MOST} s"
    except MemoryError as error:
        # An id or a page of such a size might be: where memory is short, mmsb says so itself.
        return None if str(error).startswith("Out of memory. ") else "more memory than there may be"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


def fuzz(run: Run, name: str, quick: int, full: int) -> None:
    """Mutates the files of one subject so many times. A case is the number of a mutation."""
    subject = SUBJECTS[name]
    seeds = subject.seeds(run.work)
    for n, seed in enumerate(seeds):
        if wrong := outcome(subject, seed, run.work):
            raise AssertionError(f"valid file {n} of {name} is refused: {wrong}")
    signal.signal(signal.SIGVTALRM, stop)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20) + MEMORY_MOST, resource.RLIM_INFINITY))
    count = run.amount(quick, full)
    for n in range(count):
        if not run.wants(str(n)):
            continue
        dice = run.dice(name, n)
        data = mutate(dice.choice(seeds), seeds, dice)
        if dice.random() < 0.75:
            data = subject.mend(data)
        run.tally.injected += 1
        if wrong := outcome(subject, data, run.work):
            run.fail("wrong", str(n), f"{name}, {len(data)} bytes: {wrong}")
        if n % 256 == 0:
            run.progress(n, count)
