"""The readers of the first MMSB's files: golden bytes, a literal writer read back, every kind of damage."""

import hashlib
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb import errors
from mmsb.upstream import (
    Report,
    read_checkpoint,
    read_log,
    sniff,
    survey_checkpoint,
    survey_log,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "upstream"
TIME_NS = 1_765_000_000 * 10**9


def log_header(version=1):
    return b"MMSBLOG1" + struct.pack("<I", version)


def frame(delta_id, page_id, epoch, mask, payload, sparse, time_ns=TIME_NS, source=b"router", intent=None, version=1):
    data = struct.pack("<QQII", delta_id, page_id, epoch, len(mask)) + bytes(mask)
    data += struct.pack("<I", len(payload)) + payload + struct.pack("<BQ", sparse, time_ns)
    data += struct.pack("<I", len(source)) + source
    if version == 2:
        text = (intent or "").encode()
        data += struct.pack("<I", len(text)) + text
    return data


def simple_frames(count, page_bytes=64, version=1, page_id=7, first=1):
    """Dense frames whose payloads hold no byte that could pass for a mask."""
    chance = random.Random(5)
    return [
        frame(
            n,
            page_id,
            n,
            bytes(chance.choice((0, 1)) for _ in range(page_bytes)),
            bytes(chance.randrange(2, 256) for _ in range(page_bytes)),
            0,
            TIME_NS + n,
            version=version,
        )
        for n in range(first, first + count)
    ]


def read(path, **options):
    report = Report()
    return list(read_log(path, report, **options)), report


@pytest.fixture
def write(tmp_path):
    def write(data, name="a.tlog"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def kinds(report):
    return {finding.kind for finding in report.findings if finding.severity == "fault"}


# ---- golden files


def test_golden_log():
    path = GOLDEN / "test.tlog"
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("afd3c50d")
    frames, report = read(path)
    assert len(frames) == 1
    only = frames[0]
    assert (only.delta_id, only.page_id, only.epoch, only.is_sparse) == (1, 42, 1, True)
    assert (only.mask, only.payload, only.timestamp_ns, only.source) == (b"\x01", b"\x2a", 0, "test_source")
    assert only.intent is None and only.end == 66
    assert report.fault_count == 0 and report.counts == {"timestamp 0": 1, "page size": 1}


def test_golden_checkpoint():
    path = GOLDEN / "test.chk"
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("0e57312f")
    report = Report()
    pages = list(read_checkpoint(path, report))
    assert [(p.page_id, p.size, p.epoch, p.location, p.metadata) for p in pages] == [
        (42, 4096, 1, "cpu", [("test", b"meta")])
    ]
    assert pages[0].data == b"\x2a" + b"\x63" * 4095
    assert report.fault_count == 0 and report.nbytes_read == 4172


def test_empty_checkpoint_of_the_first_test_suite(write):
    path = write(b"MMSBSNAP" + struct.pack("<IIQ", 1, 0, 12), "phase4.ckpt")
    assert list(read_checkpoint(path)) == []


# ---- a literal writer, read back


@st.composite
def deltas(draw):
    mask = draw(st.lists(st.integers(0, 1), min_size=1, max_size=40))
    sparse = draw(st.booleans())
    size = sum(mask) if sparse else len(mask)
    return dict(
        delta_id=draw(st.integers(1, 2**32 - 1)),
        page_id=draw(st.integers(0, 2**64 - 1)),
        epoch=draw(st.integers(0, 2**32 - 1)),
        mask=bytes(mask),
        payload=draw(st.binary(min_size=size, max_size=size)),
        sparse=int(sparse),
        time_ns=draw(st.just(0) | st.integers(TIME_NS, 2 * TIME_NS)),
        source=draw(st.text("abcXYZ_/ é", max_size=12)).encode(),
    )


@given(items=st.lists(deltas(), max_size=8), intents=st.lists(st.sampled_from([None, "{}", '{"a": [1]}']), min_size=8))
@pytest.mark.parametrize("version", [1, 2])
def test_what_was_written_is_read(tmp_path_factory, version, items, intents):
    path = tmp_path_factory.mktemp("log") / "a.tlog"
    data = log_header(version)
    for item, intent in zip(items, intents, strict=False):
        data += frame(**item, intent=intent, version=version)
    path.write_bytes(data)
    frames, report = read(path)
    written = items[: len(intents)]
    assert [(f.delta_id, f.page_id, f.epoch, f.mask, f.payload, f.is_sparse) for f in frames] == [
        (i["delta_id"], i["page_id"], i["epoch"], i["mask"], i["payload"], bool(i["sparse"])) for i in written
    ]
    assert [(f.timestamp_ns, f.source.encode()) for f in frames] == [(i["time_ns"], i["source"]) for i in written]
    if version == 2:
        assert [f.intent for f in frames] == intents[: len(written)]
    assert report.nbytes_read == (len(data) if written else 0)
    assert not kinds(report) - {"duplicate id", "epoch regression", "epoch gap"}
    for found, item in zip(frames, written, strict=True):
        page, model = bytearray(40), bytearray(40)
        values = iter(found.values())
        for offset, length in found.ranges():
            page[offset : offset + length] = bytes(next(values) for _ in range(length))
        payload = iter(item["payload"])
        for offset, flag in enumerate(item["mask"]):
            value = next(payload) if flag or not item["sparse"] else None
            if flag:
                model[offset] = value
        assert page == model


# ---- foreign and newer files


@pytest.mark.parametrize("data", [b"", b"MMSB", b"MMSBLOG1", b"MMSBLOG2" + bytes(8), b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_foreign_files_are_refused(write, data):
    with pytest.raises(errors.NotAStoreError) as caught:
        sniff(write(data))
    assert caught.value.path.endswith("a.tlog")


@pytest.mark.parametrize("version", [0, 3, 2**32 - 1])
@pytest.mark.parametrize("magic", [b"MMSBLOG1", b"MMSBSNAP"])
def test_other_versions_are_refused(write, magic, version):
    with pytest.raises(errors.FormatVersionError) as caught:
        sniff(write(magic + struct.pack("<I", version)))
    assert caught.value.version == version


def test_each_reader_wants_its_own_file():
    with pytest.raises(errors.NotAStoreError):
        read(GOLDEN / "test.chk")
    with pytest.raises(errors.NotAStoreError):
        list(read_checkpoint(GOLDEN / "test.tlog"))


# ---- damage of a log


def test_every_cut_leaves_a_prefix(write):
    frames = simple_frames(4, page_bytes=16)
    data = log_header() + b"".join(frames)
    ends = [len(log_header()) + sum(map(len, frames[:n])) for n in range(5)]
    for cut in range(12, len(data) + 1):
        found, report = read(write(data[:cut]))
        whole = sum(1 for end in ends[1:] if end <= cut)
        assert [f.delta_id for f in found] == list(range(1, whole + 1)), cut
        assert kinds(report) == (set() if cut in ends else {"torn tail"}), cut


def test_no_flipped_byte_of_the_structure_passes_in_silence(write):
    """Flips in payloads, ids and times cannot be seen in this format; every other one must be."""
    frames = simple_frames(3, page_bytes=16)
    data = log_header() + b"".join(frames)
    begin = 12 + len(frames[0])
    for at in [*range(begin + 20, begin + 44), *range(begin + 60, begin + 61), *range(begin + 69, begin + 73)]:
        for bit in range(1, 8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            found, report = read(write(bytes(broken)))
            assert report.fault_count, (at - begin, bit)
            assert [f.delta_id for f in found][:1] == [1]


def test_mask_byte(write):
    data = bytearray(log_header() + b"".join(simple_frames(3)))
    data[12 + 24 + 5] = 2
    found, report = read(write(bytes(data)))
    assert found == [] and kinds(report) == {"mask byte"}
    assert report.findings[0].offset == 12 + 24 + 5 and "byte 5 of 64 is 2" in report.findings[0].message


def test_popcount_and_payload_disagree(write):
    bad = frame(2, 1, 2, b"\1\1\0\0", b"abc", 1)
    good = frame(1, 1, 1, b"\1\1\0\0", b"ab", 1)
    found, report = read(write(log_header() + good + bad + good))
    assert [f.delta_id for f in found] == [1] and kinds(report) == {"payload length"}


def test_sparse_flag_disagrees(write):
    found, report = read(write(log_header() + frame(1, 1, 1, b"\1\1\0\0", b"ab", 0)))
    assert found == [] and kinds(report) == {"payload length"}


@pytest.mark.parametrize("cut", range(1, 175, 6))
def test_torn_frame_followed_by_appends(write, cut):
    """The writer died in a frame, the next one appended behind it: a naive reader decodes phantoms from that."""
    before, torn, after = simple_frames(3), simple_frames(1, first=4)[0], simple_frames(5, first=5)
    path = write(log_header() + b"".join(before) + torn[:cut] + b"".join(after))
    found, report = read(path)
    assert [f.delta_id for f in found] == [1, 2, 3] and report.fault_count
    if cut < 41:
        return  # so little of it is there that the frame behind may complete it
    found, report = read(path, skip_damage=True)
    ids = [f.delta_id for f in found]
    assert ids[:3] == [1, 2, 3] and set(ids) <= {1, 2, 3, 5, 6, 7, 8, 9} and ids[-4:] == [6, 7, 8, 9]
    assert report.fault_count


def test_phantom_frames_out_of_zeros(write):
    found, report = read(write(log_header() + b"".join(simple_frames(2)) + bytes(41 * 20)))
    assert len(found) == 2 and kinds(report) == {"phantom frame"}


def test_frame_glued_from_two_is_left_out(write):
    """Torn in its payload; the bytes of the next frame happen to complete it, and make no sense as its last fields."""
    whole = frame(3, 7, 3, b"\1" * 8, b"ABCDEFGH", 1)
    glued = whole[: -13 - 6] + struct.pack("<BQI", 1, 2**63, 2) + b"\xff\xfe"
    found, report = read(write(log_header() + frame(2, 7, 2, b"\1" * 8, b"12345678", 1) + glued + b"\x07" * 50))
    assert [f.delta_id for f in found] == [2] and "phantom frame" in kinds(report)


@pytest.mark.parametrize("count", [1, 3])
def test_version_2_frames_in_a_version_1_file(write, count):
    old = simple_frames(3)
    new = [
        frame(n, 7, n, b"\1" * 64, bytes(range(64)), 1, version=2, intent=None if n % 2 else '{"why": 1}')
        for n in range(4, 4 + count)
    ]
    found, report = read(write(log_header(1) + b"".join(old + new)))
    assert [f.delta_id for f in found] == list(range(1, 4 + count))
    assert [f.intent for f in found[3:]] == ['{"why": 1}', None, '{"why": 1}'][:count]
    assert kinds(report) == {"mixed versions"}


def test_duplicate_ids_and_epoch_regression_of_a_second_session(write):
    session = b"".join(simple_frames(3))
    found, report = read(write(log_header() + session + session))
    assert len(found) == 6 and report.counts["duplicate id"] == 3 and report.counts["epoch regression"] == 1


def test_epoch_gap_first_epoch_and_repeated_epoch(write):
    epochs = [4, 4, 5, 9]
    data = b"".join(frame(n + 1, 1, epoch, b"\1", b"x", 1) for n, epoch in enumerate(epochs))
    _, report = read(write(log_header() + data))
    assert {name: report.counts[name] for name in ("first epoch", "repeated epoch", "epoch gap")} == {
        "first epoch": 1,
        "repeated epoch": 1,
        "epoch gap": 1,
    }
    assert report.fault_count == 1


def test_times_and_sources(write):
    data = frame(1, 1, 1, b"\1", b"x", 1, TIME_NS + 5) + frame(2, 1, 2, b"\1", b"x", 1, TIME_NS)
    data += frame(3, 1, 3, b"\1", b"x", 1, 12345) + frame(4, 1, 4, b"\1", b"x", 1, source=b"caf\xe9")
    found, report = read(write(log_header() + data))
    assert found[3].source == "caf\ufffd" and found[3].source_is_lossy
    assert {"time regression", "timestamp", "lossy source"} <= set(report.counts)


def test_sizes_are_the_longest_masks(write):
    data = frame(1, 1, 1, b"\1", b"x", 1) + frame(2, 1, 2, b"\0\0\1", b"y", 1) + frame(3, 2, 1, b"\0\1", b"zz", 0)
    report = Report()
    assert survey_log(write(log_header() + data), report) == {1: 3, 2: 2}
    assert report.counts["mask length"] == 1 and report.counts["page size"] == 2 and report.fault_count == 0


@pytest.mark.parametrize("at", [32, 36 + 64, 36 + 64 + 4 + 64 + 9])
def test_hostile_lengths_allocate_nothing(write, at):
    data = bytearray(log_header() + simple_frames(1)[0])
    data[at : at + 4] = b"\xff\xff\xff\xff"
    found, report = read(write(bytes(data)))
    assert found == [] and report.fault_count == 1


def test_intent_that_is_no_json_or_no_utf8(write):
    head = frame(1, 1, 1, b"\1", b"x", 1)
    for raw in (b"\x00\x01", b'{"\xff"}'):
        found, report = read(write(log_header(2) + head + struct.pack("<I", len(raw)) + raw))
        assert found == [] and kinds(report) == {"intent"}


def test_memory_layout_of_2026_is_named(write):
    found, report = read(write(log_header(2) + struct.pack("<Q", 300) + b"\x05proof" * 50))
    assert found == [] and "mmsb-memory" in report.findings[-1].message


@given(st.binary(max_size=400), st.sampled_from([1, 2]))
def test_garbage_never_raises(tmp_path_factory, data, version):
    path = tmp_path_factory.mktemp("log") / "a.tlog"
    path.write_bytes(log_header(version) + data)
    for skip_damage in (False, True):
        frames, report = read(path, skip_damage=skip_damage)
        assert report.frames == len(frames)
        assert report.fault_count or report.nbytes_read in (0, 12 + len(data))


@given(st.data())
def test_mutated_logs_never_raise(tmp_path_factory, data):
    raw = bytearray(log_header(2) + b"".join(simple_frames(4, page_bytes=12, version=2)))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(12, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("log") / "a.tlog"
    path.write_bytes(raw)
    for skip_damage in (False, True):
        frames, _ = read(path, skip_damage=skip_damage)
        assert all(found.mask and len(found.values()) == sum(found.mask) for found in frames)


# ---- checkpoints


def checkpoint(pages, version=1, log_offset=12, with_metadata=True):
    data = b"MMSBSNAP" + struct.pack("<IIQ", version, len(pages), log_offset)
    for page_id, epoch, location, metadata, content in pages:
        data += struct.pack("<QQIi", page_id, len(content), epoch, location)
        if with_metadata:
            blob = b""
            if metadata:
                blob = struct.pack("<I", len(metadata))
                for key, value in metadata:
                    blob += struct.pack("<I", len(key.encode())) + key.encode() + struct.pack("<I", len(value)) + value
            data += struct.pack("<I", len(blob)) + blob
        data += struct.pack("<I", len(content)) + content
    return data


PAGES = [(3, 7, 0, [("k", b"v"), ("", b"")], b"abc"), (1, 0, 1, [], b"\0"), (2**63, 9, 2, [("é", b"")], b"xy" * 50)]


@pytest.mark.parametrize("version", [1, 2])
def test_checkpoint_roundtrip(write, version):
    report = Report()
    found = list(read_checkpoint(write(checkpoint(PAGES, version)), report))
    assert [
        (p.page_id, p.epoch, ["cpu", "gpu", "unified"].index(p.location), p.metadata, p.data) for p in found
    ] == PAGES
    assert report.fault_count == 0 and report.counts == {"metadata": 1}


def test_checkpoint_layout_without_metadata(write):
    report = Report()
    found = list(read_checkpoint(write(checkpoint(PAGES, 2, with_metadata=False)), report))
    assert [(p.page_id, p.data) for p in found] == [(page[0], page[4]) for page in PAGES]
    assert report.counts == {"layout": 1}


def test_checkpoint_cut_anywhere_is_refused(write):
    data = checkpoint(PAGES)
    for cut in range(12, len(data)):
        with pytest.raises(errors.CorruptCheckpointError) as caught:
            survey_checkpoint(write(data[:cut]))
        assert caught.value.offset <= cut and caught.value.path.endswith("a.tlog")


def test_checkpoint_trailing_bytes(write):
    report = Report()
    assert len(list(read_checkpoint(write(checkpoint(PAGES) + b"??"), report))) == 3
    assert kinds(report) == {"trailing bytes"}


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([(1, 0, 0, [], b"a"), (1, 0, 0, [], b"b")], "twice"),
        ([(1, 0, 3, [], b"a")], "location 3"),
        ([(1, 0, -1, [], b"a")], "location -1"),
        ([(1, 0, 0, [], b""), (2, 0, 0, [], b"abcdefgh")], "size 0"),
    ],
)
def test_checkpoint_that_cannot_be(write, pages, reason):
    with pytest.raises(errors.CorruptCheckpointError, match=reason):
        survey_checkpoint(write(checkpoint(pages)))


@pytest.mark.parametrize("at", [12, 32, 44 + 4, 44 + 8, 44 + 8 + 1])
def test_checkpoint_hostile_lengths(write, at):
    data = bytearray(checkpoint(PAGES))
    data[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(errors.CorruptCheckpointError):
        survey_checkpoint(write(bytes(data)))


def test_metadata_key_that_is_no_utf8(write):
    data = checkpoint([(1, 0, 0, [("kk", b"v")], b"a")]).replace(b"kk", b"\xff\xff")
    with pytest.raises(errors.CorruptCheckpointError, match="UTF-8"):
        survey_checkpoint(write(data))


@given(st.data())
def test_mutated_checkpoints_are_read_or_refused(tmp_path_factory, data):
    raw = bytearray(checkpoint(PAGES, data.draw(st.sampled_from([1, 2]))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(12, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("chk") / "a.chk"
    path.write_bytes(raw)
    try:
        assert all(len(page.data) == page.size for page in read_checkpoint(path))
    except errors.CorruptCheckpointError:
        pass
