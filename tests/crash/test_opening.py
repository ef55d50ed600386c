"""Opening stores that are damaged, foreign or cut: each way of recovery, once for a writer and once for a reader."""

import errno
import os
import random
import shutil
from unittest import mock

import pytest

import mmsb
from mmsb import segments
from mmsb._core.files import Files
from mmsb._core.log import HEADER_BYTES, crc32c
from mmsb.horizon import SLOTS_AT, Mark, decode, read_slots
from mmsb.log import Log
from mmsb.segments import Buffers, Segment


def fill(path, commits=120, **options):
    """A closed store of several segments: page 1, "a", holds the number of its last commit."""
    with mmsb.open(path, segment_bytes=4096, checkpoint_bytes=None, **options) as state:
        page = state.create_page(100, name="a")
        for n in range(2, commits + 1):
            page.write(n.to_bytes(4, "little") * 10)
    return sorted((path / "log").iterdir())


def refused(path, words):
    """A writer is refused, a reader told; what the reader sees."""
    with pytest.raises(mmsb.CorruptLogError) as caught:
        mmsb.open(path)
    assert words in str(caught.value)
    with mmsb.open(path, read_only=True) as state:
        assert words in str(state.recovered.damage)
        number = int.from_bytes(state.page("a")[0:4], "little") if "a" in state else state.seq
        assert number == state.seq or number == 0
        return state.seq


def crashed(path, commits, to):
    """The segments of a store whose owner is killed now, and that was never synced. The last commit is at byte 50."""
    with mock.patch("mmsb.flusher.HORIZON_SECONDS", 600):
        state = mmsb.open(path, segment_bytes=4096, checkpoint_bytes=None)
        page = state.create_page(100, name="a")
        for n in range(2, commits):
            page.write(n.to_bytes(4, "little") * 10)
        page.write(b"last", at=50)
        shutil.copytree(path, to)
        state.close()
    return sorted((to / "log").iterdir())


def end_of_frames(segment, frames):
    """Where the frame after so many of them begins."""
    data, at = segment.read_bytes(), HEADER_BYTES
    for _ in range(frames):
        at += 8 + 8 * int.from_bytes(data[at : at + 4], "little")
    return at


def test_a_horizon_without_an_intact_slot(tmp_path):
    fill(tmp_path / "s")
    horizon = tmp_path / "s/horizon"
    data = bytearray(horizon.read_bytes())
    for at in SLOTS_AT:
        data[at + 50] ^= 1
    horizon.write_bytes(data)
    assert refused(tmp_path / "s", "both of its slots are damaged") == 120


@pytest.mark.parametrize("place", [0, 1])
def test_a_horizon_with_one_intact_slot_is_mended(tmp_path, place):
    crashed(tmp_path / "s", 10, tmp_path / "c")
    horizon = tmp_path / "c/horizon"
    data = bytearray(horizon.read_bytes())
    data[SLOTS_AT[place] + 50] ^= 1
    horizon.write_bytes(data)
    mmsb.open(tmp_path / "c", read_only=True).close()
    assert horizon.read_bytes() == data
    with mmsb.open(tmp_path / "c") as state:
        assert state.seq == 10
        assert None not in read_slots(horizon.read_bytes(), state._log.uuid)


def test_a_horizon_that_cannot_be_read_leaves_nothing_open(tmp_path):
    fill(tmp_path / "s")

    class Failing(Files):
        def pread(self, fd, count, offset):
            if os.readlink(f"/proc/self/fd/{fd}").endswith("/horizon"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().pread(fd, count, offset)

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        mmsb.open(tmp_path / "s", files=Failing())
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    assert not any(str(tmp_path) in os.readlink(link) for link in links if os.path.lexists(link))


def test_a_horizon_of_another_store(tmp_path):
    fill(tmp_path / "s")
    fill(tmp_path / "other")
    shutil.copy(tmp_path / "other/horizon", tmp_path / "s/horizon")
    assert refused(tmp_path / "s", "both of its slots are damaged") == 120


def test_slots_with_right_checksums_that_are_none():
    slot = Mark(5, 1, 200, 7, 9, bytes(32), True).encode(bytes(16), 3)
    assert decode(slot, bytes(16)) == (3, Mark(5, 1, 200, 7, 9, bytes(32), True))
    for at, value in ((0, 0), (8, 2), (20, 1), (200, 1), (507, 1)):
        changed = bytearray(slot)
        changed[at] = value
        changed[-4:] = crc32c(bytes(changed[:-4])).to_bytes(4, "little")
        assert decode(bytes(changed), bytes(16)) is None
    assert decode(slot[:-1], bytes(16)) is None and decode(slot, bytes(15) + b"x") is None


def test_segments_that_took_each_others_names(tmp_path):
    first, second, *_ = fill(tmp_path / "s")
    shutil.copy(second, first)
    assert refused(tmp_path / "s", "it is segment 2 under another name") == 0


def test_a_segment_of_another_store(tmp_path):
    _, second, *_ = fill(tmp_path / "s")
    shutil.copy(fill(tmp_path / "other")[1], second)
    assert 0 < refused(tmp_path / "s", "it belongs to another store") < 120


def test_a_compressed_segment_that_is_damaged(tmp_path):
    first, second, *_ = fill(tmp_path / "s", 400, compress=True)
    assert second.name.endswith(".zst")
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    assert 0 < refused(tmp_path / "s", str(second)) < 300


def test_a_compressed_segment_that_is_cut(tmp_path):
    _, second, *_ = fill(tmp_path / "s", 400, compress=True)
    os.truncate(second, second.stat().st_size // 2)
    assert 0 < refused(tmp_path / "s", str(second)) < 300


def test_a_compressed_segment_that_begins_well_and_is_cut_later(tmp_path):
    """Of more than one block of zstd: its header can be read."""
    with mmsb.open(tmp_path / "s", segment_bytes=1 << 19, checkpoint_bytes=None, compress=True) as state:
        page = state.create_page(4096, name="a")
        for n in range(300):
            page.write((n + 2).to_bytes(4, "little") + random.Random(n).randbytes(4092))
    for checkpoint in (tmp_path / "s" / "checkpoints").iterdir():  # what lies before one is not read
        checkpoint.unlink()
    _, second, *_ = sorted((tmp_path / "s" / "log").iterdir())
    os.truncate(second, 400_000)
    assert 0 < refused(tmp_path / "s", str(second)) < 300


def test_a_segment_that_is_gone(tmp_path):
    _, second, *_ = fill(tmp_path / "s", 400)
    second.unlink()
    assert refused(tmp_path / "s", f"{second} does not fit the store: the file is missing") > 0


@pytest.mark.parametrize("place", [0, 1])
def test_a_segment_of_a_newer_version(tmp_path, place):
    segment = fill(tmp_path / "s")[place]
    data = bytearray(segment.read_bytes())
    data[8] = 9
    data[124:128] = crc32c(bytes(data[:124])).to_bytes(4, "little")
    segment.write_bytes(data)
    for read_only in (False, True):
        with pytest.raises(mmsb.FormatVersionError) as caught:
            mmsb.open(tmp_path / "s", read_only=read_only)
        assert (caught.value.version, caught.value.path) == (9, str(segment))


def test_a_frame_with_a_right_checksum_that_cannot_be_applied(tmp_path):
    """Of a page that is not there: the frame names another one, and its checksum is made right again."""
    (segment,) = crashed(tmp_path / "s", 10, tmp_path / "c")
    data, at = bytearray(segment.read_bytes()), end_of_frames(segment, 9)
    units = int.from_bytes(data[at : at + 4], "little")
    body = data[at + 8 : at + 8 + 8 * units]
    change = body.index(bytes([1, 1, 50, 4]))
    body[change + 1] = 2
    salt = bytes(data[32:48])
    data[at + 4 : at + 8] = crc32c(bytes(body), crc32c(units.to_bytes(4, "little"), crc32c(salt))).to_bytes(4, "little")
    data[at + 8 : at + 8 + len(body)] = body
    segment.write_bytes(data)
    with pytest.raises(mmsb.CorruptLogError) as caught:
        mmsb.open(tmp_path / "c")
    assert caught.value.path == str(segment) and caught.value.seq == 10


def test_what_a_writer_writes_while_a_reader_opens_is_no_damage(tmp_path, monkeypatch):
    """The reader read the log first, and the horizon later: it looks again before it calls anything damage."""
    *_, last = fill(tmp_path / "s")
    read, looks = segments.read_raw, []

    def early(files, segment, path):
        data = read(files, segment, path)
        if path != str(last):
            return data
        looks.append(path)
        end = end_of_frames(last, 2) if len(looks) == 1 else len(data)
        return data[:end].ljust(len(data), b"\0")

    monkeypatch.setattr(segments, "read_raw", early)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert state.recovered.damage is None and state.seq == 120 and len(looks) == 2


def test_a_crash_that_lost_the_end_of_a_segment_and_kept_the_next(tmp_path):
    """Nothing of it was synced: the log ends where it is whole, and what cannot follow is set aside."""
    first, second, *_ = crashed(tmp_path / "s", 120, tmp_path / "c")
    end, data = end_of_frames(first, 20), first.read_bytes()
    first.write_bytes(data[:end].ljust(len(data), b"\0"))
    with mmsb.open(tmp_path / "c") as state:
        assert state.seq == 20 and state.recovered.torn_bytes == 0 and state.recovered.damage is None
        assert [os.path.basename(path)[-12:] for path in state.recovered.saved] == ["00000002.seg"]
        state.page("a").write(b"goes on")
    with mmsb.open(tmp_path / "c") as state:
        assert state.seq == 21 and not state.verify().findings


def test_two_crashes_at_one_commit_are_kept_apart(tmp_path):
    (segment,) = crashed(tmp_path / "s", 10, tmp_path / "c")
    at = end_of_frames(segment, 10)
    for count in range(2):
        data = bytearray(segment.read_bytes())
        data[at + 16 : at + 21] = (b"first", b"other")[count]
        segment.write_bytes(data)
        # The horizon of a clean end would call this damage.
        if count == 0:
            shutil.copytree(tmp_path / "c", tmp_path / "again")
        with mmsb.open(tmp_path / "c", mapped=bool(count)) as state:
            assert state.seq == 10 and state.recovered.torn_bytes
        if count == 0:
            shutil.copytree(tmp_path / "c/torn", tmp_path / "again/torn")
            shutil.rmtree(tmp_path / "c")
            (tmp_path / "again").rename(tmp_path / "c")
    assert sorted(path.name[-6:] for path in (tmp_path / "c/torn").iterdir()) == ["-0.bin", "-1.bin"]


def test_a_log_whose_last_segment_is_compressed(tmp_path):
    *_, last = fill(tmp_path / "s")
    from mmsb.compression import Compressor

    state = mmsb.open(tmp_path / "s", read_only=True)
    segment = state._log.segments[-1]
    compressor = Compressor(Files(), [])
    compressor.add(segment)
    compressor.stop()
    state.close()
    assert not last.exists() and last.with_name(last.name + ".zst").exists()
    with mmsb.open(tmp_path / "s", mapped=False) as state:
        assert state.seq == 120
        state.page("a").write(b"in a new one")
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 121 and not state.verify().findings


def test_kept_buffers_are_bounded(tmp_path):
    fill(tmp_path / "s", 400)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        buffers = Buffers(state._log.files, 10_000)
        log: Log = state._log
        for segment in log.segments[:5]:
            buffers.of(Segment(segment.head, segment.tail, path=segment.path))
        assert len(buffers.kept) <= 3 and log.segments[4].number in buffers.kept
        again = buffers.of(Segment(log.segments[4].head, log.segments[4].tail, path=log.segments[4].path))
        assert again is buffers.kept[log.segments[4].number]


def test_a_segment_that_is_renamed_while_it_is_looked_for(tmp_path):
    first, *_ = fill(tmp_path / "s", 400, compress=True)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        known = state._log.segments[0]
        renamed = Segment(known.head, known.tail, path=str(first).removesuffix(".zst"))

        class Late(Files):
            """The other thread that compresses it has told the segment by now."""

            def open(self, path, flags, mode=0o600):
                if path != renamed.path or path.endswith(".zst"):
                    return super().open(path, flags, mode)
                renamed.path = str(first)
                raise FileNotFoundError(path)

        assert segments.read_segment(Late(), renamed)[:8] == b"MMSBSEG1"


def test_a_segment_that_is_compressed_while_it_is_looked_for(tmp_path):
    """By the process that writes the store, which tells nobody; without it, it is gone."""
    first, *_ = fill(tmp_path / "s", 400, compress=True)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        known = state._log.segments[0]
        path = str(first).removesuffix(".zst")
        segment = Segment(known.head, known.tail, path=path)
        assert segments.read_segment(Files(), segment)[:8] == b"MMSBSEG1" and segment.path == str(first)
        first.unlink()
        for name in (path, str(first)):
            with pytest.raises(FileNotFoundError):
                segments.read_segment(Files(), Segment(known.head, known.tail, path=name))


LARGE = 96 << 20  # more than is read without a look for holes


def test_a_large_segment_that_is_full_of_holes(tmp_path):
    """It only claims to be large, as a forged one does: nobody reads or fills its holes; the log goes on elsewhere."""
    with mmsb.open(tmp_path / "s", segment_bytes=LARGE, checkpoint_bytes=None) as state:
        page = state.create_page(100, name="a")
        for n in range(2, 121):
            page.write(n.to_bytes(4, "little") * 10)
    (segment,) = (tmp_path / "s/log").iterdir()
    data = segment.read_bytes()[:65536]
    segment.write_bytes(data)
    os.truncate(segment, LARGE)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert state.seq == 120 and state._log.segments[0].data_end == 65536
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 120 and len(state._log.segments) == 2
        state.page("a").write(b"goes on")
    assert segment.stat().st_blocks * 512 < LARGE // 2
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 121 and not state.verify().findings


def test_a_large_segment_is_gone_on_with(tmp_path):
    for count in (1, 2):
        with mmsb.open(tmp_path / "s", segment_bytes=LARGE, checkpoint_bytes=None) as state:
            page = state.create_page(100) if count == 1 else state.page(1)
            page.write(bytes([count]))
            assert len(state._log.segments) == 1 and state._log.active.data_end == LARGE
