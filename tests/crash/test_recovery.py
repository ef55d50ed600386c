"""What an opening does and says, in every detail: facts of its errors, order of its file operations, what it leaves."""

import gc
import os
import shutil

import pytest

import mmsb
from mmsb import horizon, recovery
from mmsb._core.files import Files
from mmsb._core.log import HEADER_BYTES
from mmsb.horizon import SLOTS_AT, Mark, initial
from tests.crash.test_opening import crashed, end_of_frames, fill


class Watched(Files):
    """Notes what is done to which file, by its name."""

    def __init__(self):
        self.done = []
        self.paths = {}

    def open(self, path, flags, mode=0o600):
        fd = super().open(path, flags, mode)
        self.paths[fd] = os.path.basename(path)
        return fd

    def fdatasync(self, fd):
        super().fdatasync(fd)
        self.done.append(("fdatasync", self.paths[fd]))

    def pwrite(self, fd, data, offset):
        super().pwrite(fd, data, offset)
        self.done.append(("pwrite", self.paths[fd], offset, len(data)))

    def rename(self, source, to):
        super().rename(source, to)
        self.done.append(("rename", os.path.basename(source)))

    def sync_directory(self, path):
        super().sync_directory(path)
        self.done.append(("sync_directory", os.path.basename(path)))

    def map(self, fd, count, writable):
        self.done.append(("map", self.paths[fd], writable))
        return super().map(fd, count, writable)


def facts_of(path):
    """Of the error that a writer gets; a reader is told the same."""
    with pytest.raises(mmsb.CorruptLogError) as caught:
        mmsb.open(path)
    with mmsb.open(path, read_only=True) as state:
        assert state.recovered.damage.facts == caught.value.facts
        assert str(state.recovered.damage) == str(caught.value)
    return caught.value.facts


def held(folder):
    """Descriptors and mappings of files in there that this process has."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    found = [os.readlink(link) for link in links if os.path.lexists(link)]
    with open("/proc/self/maps") as maps:
        found += maps.read().splitlines()
    return [name for name in found if str(folder) in name]


def zeroed(segment, begin, end=None):
    """Takes bytes out of a segment file."""
    data = bytearray(segment.read_bytes())
    end = len(data) if end is None else end
    data[begin:end] = bytes(end - begin)
    segment.write_bytes(data)


def with_an_old_horizon(store):
    """The horizon that a store begins with: only its frames and headers tell what was durable."""
    with mmsb.open(store, read_only=True) as state:
        uuid = state._store.uuid
    (store / "horizon").write_bytes(initial(uuid))


# ---- what is said of damage


def test_a_frame_that_is_gone_and_one_that_is_wrong(tmp_path):
    segment = fill(tmp_path / "s")[0]
    at = end_of_frames(segment, 7)
    whole = segment.read_bytes()
    zeroed(segment, at)
    assert facts_of(tmp_path / "s") == {"path": str(segment), "offset": at, "seq": 8, "reason": "it is missing"}
    changed = bytearray(whole)
    changed[at + 20] ^= 1
    segment.write_bytes(changed)
    facts = facts_of(tmp_path / "s")
    assert facts["reason"] not in ("it is missing", "") and (facts["offset"], facts["seq"]) == (at, 8)


def test_files_that_do_not_fit_are_named_with_the_commit_they_begin_with(tmp_path):
    first, second, *_ = fill(tmp_path / "s")
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        begins = state._log.segments[1].base_seq + 1
    foreign = fill(tmp_path / "other")[1]
    kept = second.read_bytes()
    shutil.copy(foreign, second)
    facts = facts_of(tmp_path / "s")
    assert facts["path"] == str(second) and facts["offset"] == 0 and 1 < facts["seq"] <= begins + 1
    assert facts["reason"] == "it belongs to another store"
    second.write_bytes(kept)
    shutil.copy(second, first)
    facts = facts_of(tmp_path / "s")
    assert facts == {"path": str(first), "offset": 0, "seq": begins, "reason": "it is segment 2 under another name"}
    first.write_bytes(b"")
    facts = facts_of(tmp_path / "s")
    assert facts == {"path": str(first), "offset": 0, "seq": None, "reason": "damaged header"}


def test_the_last_segments_are_missing(tmp_path):
    *before, last = fill(tmp_path / "s")
    last.unlink()
    assert facts_of(tmp_path / "s")["path"] == str(last)
    before[-1].unlink()
    assert facts_of(tmp_path / "s")["path"] == str(before[-1])


def test_a_log_that_ends_before_its_checkpoint(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=65536, checkpoint_bytes=None) as state:
        page = state.create_page(100, name="a")
        for n in range(2, 41):
            page.write(n.to_bytes(4, "little") * 10)
        state.checkpoint()
        at = state._active_tail
    (segment,) = (tmp_path / "s/log").iterdir()
    os.truncate(segment, at - 16)
    facts = facts_of(tmp_path / "s")
    assert facts["path"] == str(segment) and facts["offset"] >= at - 16 and facts["seq"] == 41


def test_the_first_damage_is_the_one_that_is_told(tmp_path):
    _, second, *_ = fill(tmp_path / "s", 400)
    (tmp_path / "s/horizon").write_bytes(bytes(horizon.HORIZON_BYTES))
    second.unlink()
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert "both of its slots are damaged" in str(state.recovered.damage) and 0 < state.seq < 120


def test_an_anchor_that_is_missing_behind_the_last_commit(tmp_path):
    """No commit is gone, and yet the horizon says that the log was longer."""
    path = tmp_path / "s"
    with mmsb.open(path, segment_bytes=65536, checkpoint_bytes=None) as state:
        page = state.create_page(100, name="a")
        for n in range(2, 11):
            page.write(n.to_bytes(4, "little") * 10)
        tail = state._active_tail
    (segment,) = (path / "log").iterdir()
    assert any(segment.read_bytes()[tail:])
    zeroed(segment, tail)
    facts = facts_of(path)
    assert (facts["offset"], facts["seq"], facts["reason"]) == (tail, 11, "it is missing")


# ---- what was durable, as frames and headers tell it


@pytest.mark.parametrize("cut_in", [0, 1])
def test_a_later_segment_tells_what_was_durable(tmp_path, cut_in):
    """Of a log that was synced where the horizon is one of long ago."""
    state = mmsb.open(tmp_path / "s", segment_bytes=4096, checkpoint_bytes=None)
    page = state.create_page(100, name="a")
    for n in range(2, 301):
        page.write(n.to_bytes(4, "little") * 10)
        if n % 10 == 0:
            state.sync()
    shutil.copytree(tmp_path / "s", tmp_path / "c")
    state.close()
    segments = sorted((tmp_path / "c/log").iterdir())
    with_an_old_horizon(tmp_path / "c")
    assert len(segments) > 2
    at = end_of_frames(segments[cut_in], 5)
    zeroed(segments[cut_in], at)
    facts = facts_of(tmp_path / "c")
    assert (facts["path"], facts["offset"]) == (str(segments[cut_in]), at)


def test_what_follows_in_the_same_segment_tells_what_was_durable(tmp_path):
    state = mmsb.open(tmp_path / "s", segment_bytes=65536, durability="power", checkpoint_bytes=None)
    page = state.create_page(100, name="a")
    for n in range(2, 21):
        page.write(n.to_bytes(4, "little") * 10)
    shutil.copytree(tmp_path / "s", tmp_path / "c")
    state.close()
    (segment,) = (tmp_path / "c/log").iterdir()
    with_an_old_horizon(tmp_path / "c")
    zeroed(segment, end_of_frames(segment, 9), end_of_frames(segment, 10))
    assert facts_of(tmp_path / "c")["seq"] == 10


def test_a_segment_of_another_past_does_not_follow(tmp_path):
    """Two copies of a store went on apart: seqs fit, the frames before do not."""
    crashed(tmp_path / "s", 10, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for name in ("one", "two"):
        with mmsb.open(tmp_path / name, segment_bytes=4096, checkpoint_bytes=None) as state:
            for n in range(120):
                state.page("a").write((name + str(n)).ljust(9).encode() * 5)
    for segment in sorted((tmp_path / "two/log").iterdir())[1:]:
        shutil.copy(segment, tmp_path / "one/log" / segment.name)
    facts = facts_of(tmp_path / "one")
    assert facts["path"].endswith("00000001.seg") and facts["reason"] == "it is missing"


# ---- what an opening does


def test_what_is_set_aside_goes_from_the_last_file_back(tmp_path):
    """Otherwise a crash in between leaves a gap, which is damage. Each step is durable before the next."""
    segments = crashed(tmp_path / "s", 200, tmp_path / "c")
    assert len(segments) > 2
    end = end_of_frames(segments[0], 20)
    data = bytearray(segments[0].read_bytes())
    data[end + 9] ^= 1
    segments[0].write_bytes(data)
    with_an_old_horizon(tmp_path / "c")
    torn = bytes(data[end:]).rstrip(b"\0")
    before = {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}
    with mmsb.open(tmp_path / "c", read_only=True) as state:
        assert (state.seq, state.recovered.torn_bytes, state.recovered.saved) == (20, len(torn), [])
    assert before == {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}
    files = Watched()
    with mmsb.open(tmp_path / "c", files=files) as state:
        assert (state.seq, state.recovered.torn_bytes) == (20, len(torn))
        names = [os.path.basename(path) for path in state.recovered.saved]
    later = [path.name for path in segments[:0:-1]]
    assert names == [f"{21:020d}-0.bin", *(f"{21:020d}-0.{name}" for name in later)]
    assert (tmp_path / "c/torn" / names[0]).read_bytes() == torn
    begin = files.done.index(("rename", later[0]))
    wanted = [
        step for name in later for step in (("rename", name), ("sync_directory", "torn"), ("sync_directory", "log"))
    ]
    wanted += [("pwrite", segments[0].name, end, len(torn)), ("fdatasync", segments[0].name)]
    assert files.done[begin : begin + len(wanted)] == wanted
    assert [step for step in files.done if step == wanted[-2]] == wanted[-2:-1]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_sealed_segments_of_a_dead_owner_are_synced_before_they_are_called_durable(tmp_path, monkeypatch, durability):
    monkeypatch.setattr("mmsb.flusher.HORIZON_SECONDS", 600)
    segments = crashed(tmp_path / "s", 200, tmp_path / "c")
    sealed = [path.name for path in segments[:-1]]
    files = Watched()
    with mmsb.open(tmp_path / "c", files=files, durability=durability) as state:
        synced = [step[1] for step in files.done if step[0] == "fdatasync"]
        assert set(sealed) <= set(synced) if durability == "power" else not set(sealed) & set(synced)
        state.sync()
        last = max(files.done.index(("fdatasync", name)) for name in sealed)
        assert ("fdatasync", "horizon") in files.done[last:] and not state._log.unsynced


def test_segments_that_the_horizon_calls_durable_are_not_synced_again(tmp_path):
    segments = fill(tmp_path / "s")
    files = Watched()
    with mmsb.open(tmp_path / "s", files=files, durability="power") as state:
        assert not state._log.unsynced
    assert not {path.name for path in segments[:-1]} & {step[1] for step in files.done if step[0] == "fdatasync"}


@pytest.mark.usefixtures("mappable")
def test_the_last_segment_is_mapped_to_be_read_and_then_to_be_written(tmp_path):
    *_, last = fill(tmp_path / "s")
    files = Watched()
    mmsb.open(tmp_path / "s", files=files).close()
    assert [step[1:] for step in files.done if step[0] == "map"] == [(last.name, False), (last.name, True)]
    files.done.clear()
    with mmsb.open(tmp_path / "s", files=files, mapped=False) as state:
        assert state._log.active.memory is None
    assert [step[1:] for step in files.done if step[0] == "map"] == [(last.name, False)]


@pytest.mark.usefixtures("mappable")
def test_holes_of_a_copy_are_filled_again(tmp_path):
    """A store into a hole may find the disk full."""
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(100, name="a")
    (segment,) = (tmp_path / "s/log").iterdir()
    data = segment.read_bytes()
    segment.write_bytes(data.rstrip(b"\0"))
    os.truncate(segment, len(data))
    assert segment.stat().st_blocks * 512 < len(data) // 2
    with mmsb.open(tmp_path / "s") as state:
        assert segment.stat().st_blocks * 512 >= len(data)


@pytest.mark.parametrize("how", [{}, {"mapped": False}, {"read_only": True}])
def test_an_opening_leaves_no_descriptor(tmp_path, how):
    fill(tmp_path / "s", 400, compress=True)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        numbers = (10, 200, state.seq)
        digests = [state.at(n).digest() for n in numbers]
    with mmsb.open(tmp_path / "s", **how) as state:
        assert [state.at(n).digest() for n in numbers] == digests
    del state
    gc.collect()
    assert not held(tmp_path)


def test_a_torn_tail_leaves_no_descriptor(tmp_path):
    (segment,) = crashed(tmp_path / "s", 10, tmp_path / "c")
    data, at = bytearray(segment.read_bytes()), end_of_frames(segment, 10)
    data[at + 16] = 1
    segment.write_bytes(data)
    with mmsb.open(tmp_path / "c") as state:
        assert state.recovered.torn_bytes == 17
    del state
    gc.collect()
    assert not held(tmp_path / "c")


def test_a_past_is_read_from_what_was_written_since(tmp_path, monkeypatch):
    """Bytes of the last segment that the opening read, where it cannot map, are not what it holds now."""
    monkeypatch.setattr("mmsb.store.Store.MAPPABLE", ())
    fill(tmp_path / "s", 10)
    with mmsb.open(tmp_path / "s", mapped=False) as state:
        assert not state._log.buffers.kept
        for n in range(5):
            state.page("a").write(bytes([n]) * 7)
        assert [commit.seq for commit in state.log(since=9)] == [9, 10, 11, 12, 13, 14, 15]
        assert state.at(13).page("a")[0:7] == bytes([2]) * 7


def test_after_a_compressed_end_the_log_goes_on_in_the_next_segment(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=4096, checkpoint_bytes=None, compress=True) as state:
        page = state.create_page(100, name="a")
        for n in range(2, 400):
            page.write(n.to_bytes(4, "little") * 10)
    *_, packed, last = sorted((tmp_path / "s/log").iterdir())
    assert packed.suffix == ".zst"
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        tail = state._log.segments[-2].tail
    last.unlink()
    facts = facts_of(tmp_path / "s")
    assert facts["path"] == str(last)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        uuid = state._store.uuid
    (tmp_path / "s/horizon").write_bytes(initial(uuid))
    with mmsb.open(tmp_path / "s") as state:
        before, active = state._log.segments[-2:]
        assert (before.tail, active.number, active.tail) == (tail, before.number + 1, HEADER_BYTES)
        assert active.base_seq == state.seq


def test_a_store_whose_first_segment_was_never_made(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        uuid = state._store.uuid
    for segment in (tmp_path / "s/log").iterdir():
        segment.unlink()
    (tmp_path / "s/horizon").write_bytes(initial(uuid))
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 0 and [segment.number for segment in state._log.segments] == [1]
        assert state.create_page(3).page_id == 1


@pytest.mark.parametrize("beyond", [False, True])
def test_ids_of_sources_end_with_a_segment(tmp_path, beyond):
    """After the last id there is no other: the log goes on in a new segment, which counts anew."""
    last = (1 << 32) - 1
    with mmsb.open(tmp_path / "s", checkpoint_bytes=None) as state:
        page = state.create_page(100, name="a")
        state._define_source("before", last - 1 if beyond else last - 2)
        page.write(b"1", source="this")
    with mmsb.open(tmp_path / "s") as state:
        assert len(state._log.segments) == (2 if beyond else 1)
        state.page("a").write(b"2", source="that")
    with mmsb.open(tmp_path / "s") as state:
        assert [commit.source for commit in state.log(since=2)] == ["this", "that"]
        assert not state.verify().findings


# ---- the horizon


def test_a_horizon_is_written_in_turns(tmp_path):
    """The newest slot stays while the other one is written; each count goes up by one."""
    path = tmp_path / "horizon"
    path.write_bytes(initial(bytes(16)))
    files = Watched()
    horizon_file = horizon.Horizon(files, str(path), bytes(16), writable=True)
    assert (horizon_file.counter, horizon_file.mark) == (1, horizon.FIRST)
    assert horizon.FIRST == Mark(0, 1, HEADER_BYTES, 0, 0, bytes(32), False)
    for n in range(2, 6):
        mark = Mark(n, n, 200 + n, 7, 9, bytes(range(32)), n % 2 == 0)
        horizon_file.put(mark)
        horizon_file.sync()
        slots = horizon.read_slots(path.read_bytes(), bytes(16))
        assert slots[n % 2] == (n, mark) and slots[1 - n % 2][0] == n - 1
        assert files.done[-2:] == [("pwrite", "horizon", SLOTS_AT[n % 2], 512), ("fdatasync", "horizon")]
        assert horizon.Horizon(Files(), str(path), bytes(16), writable=False).mark == mark
    with pytest.raises(AttributeError):
        mark.clean = True
    fd = horizon_file.fd
    horizon_file.close()
    horizon_file.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_a_mended_horizon_is_not_clean(tmp_path):
    """Only a close says that; both slots are written and synced, one after the other."""
    path = tmp_path / "horizon"
    mark = Mark(5, 1, 200, 7, 9, bytes(32), True)
    path.write_bytes(mark.encode(bytes(16), 4).ljust(SLOTS_AT[1], b"\0") + bytes(512))
    files = Watched()
    horizon_file = horizon.Horizon(files, str(path), bytes(16), writable=True)
    assert (horizon_file.counter, horizon_file.mark) == (4, mark)
    horizon_file.mend()
    assert [step[0] for step in files.done] == ["pwrite", "fdatasync"] * 2
    for slot in horizon.read_slots(path.read_bytes(), bytes(16)):
        assert slot[0] in (5, 6) and not slot[1].clean and slot[1].durable_seq == 5
    assert horizon_file.counter == 6 and not horizon_file.mark.clean
    horizon_file.close()


def test_a_counter_without_a_successor_is_no_slot():
    slot = Mark(5, 1, 200, 7, 9, bytes(32), True)
    assert horizon.decode(slot.encode(bytes(16), (1 << 63) - 1), bytes(16)) is not None
    assert horizon.decode(slot.encode(bytes(16), 1 << 63), bytes(16)) is None


def test_is_blank():
    assert recovery.is_blank(b"1\0\0\0", 1, 4) and not recovery.is_blank(b"1\0\0\1", 1, 4)
    assert recovery.is_blank(b"1\0\0\1", 1, 3)


def test_checkpoints_that_lie_beyond_the_log_are_told(tmp_path):
    """The log lost all its segments: the checkpoint's place says that there was one."""
    with mmsb.open(tmp_path / "s", segment_bytes=65536) as state:
        state.create_page(100, name="a").write(b"1")
        state.checkpoint()
        uuid = state._store.uuid
    (segment,) = (tmp_path / "s/log").iterdir()
    segment.unlink()
    (tmp_path / "s/horizon").write_bytes(initial(uuid))
    assert facts_of(tmp_path / "s")["path"] == str(segment)
