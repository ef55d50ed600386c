"""Verify: what is whole passes, and what is not is named with its place."""

import os
import shutil

import blake3
import pytest
from click.testing import CliRunner

import mmsb
from mmsb._core.log import crc32c
from mmsb.checkpoint import HEAD_BYTES
from mmsb.verify import Verification


def make(path, *, compact=None, compress=False, checkpoints=(30, 60, 80)):
    """A store of several segments, with checkpoints."""
    with mmsb.open(path, segment_bytes=4096, compress=compress, checkpoint_bytes=None) as state:
        state.create_page(600, name="a", metadata={"k": 1})
        for n in range(110):
            with state.batch(label=f"step {n}", source="s") as b:
                b.write("a", n.to_bytes(2, "little") * 30, at=n * 4)
            if n in checkpoints:
                state.checkpoint()
        if compact is not None:
            state.compact(before=compact)
        return state.digest()


def findings_of(path, **options):
    with mmsb.open(path, **options) as state:
        return state.verify().findings


def seal(data):
    """A checkpoint with the checksums of header and file made right again."""
    head = data[: HEAD_BYTES - 4]
    data = bytes(head) + crc32c(head).to_bytes(4, "little") + bytes(data[HEAD_BYTES:-32])
    return data + blake3.blake3(data).digest()


@pytest.mark.parametrize("how", [{}, {"compress": True}, {"compact": 65}, {"compact": 65, "compress": True}])
def test_a_whole_store_passes(tmp_path, how):
    make(tmp_path / "s", **how)
    for read_only in (True, False, True):
        with mmsb.open(tmp_path / "s", segment_bytes=4096, read_only=read_only) as state:
            report = state.verify()
            assert report.findings == []
            assert report.commits == state.seq - state.first_seq
            assert report.anchors > 0 and report.checkpoints > 0
            if not read_only:
                state.page("a").write(os.urandom(500))
                assert state.verify().findings == []


def test_a_writer_that_comes_goes_on_or_was_there_is_no_fault(tmp_path):
    make(tmp_path / "s")
    with mmsb.open(tmp_path / "s", read_only=True) as early:
        with mmsb.open(tmp_path / "s") as writer:
            writer.page("a").write(b"unsynced")
            assert early.verify().findings == []
            with mmsb.open(tmp_path / "s", read_only=True) as late:
                writer.page("a").write(b"and more")
                assert late.verify().findings == [] == early.verify().findings
                writer.sync()
                assert late.verify().findings == [] == early.verify().findings
        assert early.verify().findings == []


@pytest.mark.parametrize("finished", [True, False])
def test_half_a_frame_is_looked_at_again(tmp_path, monkeypatch, finished):
    """What a writer is just putting there is no fault once it is whole; what stays half a frame is one."""
    make(tmp_path / "s")
    *_, last = sorted((tmp_path / "s" / "log").iterdir())
    with mmsb.open(tmp_path / "s", read_only=True) as reader:
        before = last.read_bytes()
        with mmsb.open(tmp_path / "s", segment_bytes=4096) as writer:
            writer.page("a").write(b"half of it")
            whole = last.read_bytes()
        last.write_bytes(before)
        start = next(at for at, (old, new) in enumerate(zip(before, whole, strict=True)) if old != new)
        last.write_bytes(before[: start + 8] + whole[start + 8 :])  # the body, and not yet the word before it

        def meanwhile(seconds):
            if finished:
                last.write_bytes(whole)

        monkeypatch.setattr("mmsb.verify.time.sleep", meanwhile)
        kinds = [finding.kind for finding in reader.verify().findings]
        assert kinds == ([] if finished else ["leftover"])


def test_a_slot_that_is_being_written_is_looked_at_again(tmp_path, monkeypatch):
    make(tmp_path / "s")
    horizon = tmp_path / "s" / "horizon"
    whole = horizon.read_bytes()
    with mmsb.open(tmp_path / "s", read_only=True) as reader:
        horizon.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        assert [finding.kind for finding in reader.verify().findings] == ["horizon"]
        monkeypatch.setattr("mmsb.verify.time.sleep", lambda seconds: horizon.write_bytes(whole))
        assert reader.verify().findings == []


def test_a_reader_follows_a_base_that_lies_behind_an_anchor_it_has_not_seen(tmp_path):
    make(tmp_path / "s")
    with mmsb.open(tmp_path / "s", segment_bytes=4096, checkpoint_bytes=None) as writer:
        writer.page("a").write(b"!")
        with mmsb.open(tmp_path / "s", read_only=True) as reader:
            writer.sync()
            writer.compact(before=writer.seq)
            with pytest.raises(mmsb.RetentionError):
                reader.verify()
            assert reader.verify().findings == []
            assert reader.at(writer.seq).digest() == writer.digest()


def test_while_another_thread_writes(tmp_path):
    import threading

    make(tmp_path / "s")
    with mmsb.open(tmp_path / "s", segment_bytes=8192) as state:
        stop = threading.Event()

        def write():
            n = 0
            while not stop.is_set():
                n += 1
                state.page("a").write(n.to_bytes(8, "little"), at=n % 500)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(5):
                assert state.verify().findings == []
        finally:
            stop.set()
            thread.join()


def test_progress_reaches_the_end(tmp_path):
    make(tmp_path / "s")
    steps = []
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        report = state.verify(progress=lambda done, total: steps.append((done, total)))
        assert len(steps) == report.segments > 2
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_checkpoint_that_differs_from_the_log(tmp_path):
    make(tmp_path / "s", checkpoints=(30,))
    (path,) = (tmp_path / "s" / "checkpoints").iterdir()
    from mmsb.checkpoint import decode_image, encode_image

    image = decode_image(path.read_bytes(), str(path))
    size, epoch, kind, content = image.pages[1]
    changed = bytearray(content)
    changed[17:20] = b"\xaa\xbb\xcc"
    path.write_bytes(encode_image(image, {1: (size, epoch, kind, bytes(changed))}))
    (finding,) = [each for each in findings_of(tmp_path / "s", read_only=True) if each.path == str(path)]
    assert (finding.seq, finding.page_id, finding.start, finding.end) == (32, 1, 17, 20)


@pytest.mark.parametrize(
    ("field", "at", "size"), [("offset", 88, 8), ("last crc", 84, 4), ("time", 48, 8), ("anchor", 96, 32)]
)
def test_a_checkpoint_that_points_to_a_wrong_place(tmp_path, field, at, size):
    make(tmp_path / "s", checkpoints=(30,))
    (path,) = (tmp_path / "s" / "checkpoints").iterdir()
    data = bytearray(path.read_bytes())
    value = int.from_bytes(data[at : at + size], "little")
    data[at : at + size] = (value - 8).to_bytes(size, "little")
    path.write_bytes(seal(data))
    try:
        assert any(each.seq == 32 for each in findings_of(tmp_path / "s", read_only=True)), field
    except mmsb.CorruptLogError:
        pass


def test_a_base_without_its_digest(tmp_path):
    make(tmp_path / "s", compact=65)
    path = sorted((tmp_path / "s" / "checkpoints").iterdir())[0]
    data = bytearray(path.read_bytes())
    data[128] ^= 1
    path.write_bytes(seal(data))
    assert any(each.seq == 65 and "base" in each.sentence for each in findings_of(tmp_path / "s", read_only=True))


def test_a_foreign_segment_in_the_middle(tmp_path):
    for name in "st":
        make(tmp_path / name, checkpoints=(100,))
    shutil.copy(tmp_path / "t" / "log" / "00000002.seg", tmp_path / "s" / "log" / "00000002.seg")
    with pytest.raises(mmsb.CorruptLogError, match="another store"):
        mmsb.open(tmp_path / "s")


@pytest.mark.parametrize("number", [1, 2])
def test_damage_that_opening_does_not_read(tmp_path, number):
    """Opening begins at the checkpoint; verify and the past read what lies before."""
    make(tmp_path / "s", checkpoints=(100,))
    path = tmp_path / "s" / "log" / f"0000000{number}.seg"
    data = bytearray(path.read_bytes())
    data[1000] ^= 4
    path.write_bytes(data)
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 111
        (finding,) = [each for each in state.verify().findings if each.path == str(path)]
        assert finding.offset <= 1000 and finding.severity == "fault"
        with pytest.raises(mmsb.CorruptLogError):
            list(state.log())


def test_strange_files_and_bytes_are_warnings(tmp_path):
    make(tmp_path / "s")
    (tmp_path / "s" / "log" / "notes.txt").write_text("x")
    path = sorted((tmp_path / "s" / "log").glob("*.seg"))[-1]
    data = bytearray(path.read_bytes())
    data[-1] = 1
    path.write_bytes(data)
    found = findings_of(tmp_path / "s", read_only=True)
    assert {each.path for each in found} == {str(path), str(tmp_path / "s" / "log" / "notes.txt")}
    assert {each.severity for each in found} == {"warning"}


def test_a_segment_that_is_cut_before_the_base(tmp_path):
    """The history begins behind the end of the file: an error or a finding with its place, and nothing untyped."""
    make(tmp_path / "s", compact=20)
    path = sorted((tmp_path / "s" / "log").iterdir())[0]
    path.write_bytes(path.read_bytes()[:600])
    (finding, *_) = findings_of(tmp_path / "s", read_only=True)
    assert (finding.path, finding.kind) == (str(path), "log")


@pytest.mark.parametrize("offset", [0, 129, 1 << 40])
def test_a_checkpoint_that_points_to_no_place_at_all(tmp_path, offset):
    make(tmp_path / "s", checkpoints=(30,))
    (path,) = (tmp_path / "s" / "checkpoints").iterdir()
    data = bytearray(path.read_bytes())
    data[88:96] = offset.to_bytes(8, "little")
    path.write_bytes(seal(data))
    with pytest.raises(mmsb.CorruptLogError, match="no frame can stand"):
        mmsb.open(tmp_path / "s")
    assert findings_of(tmp_path / "s", read_only=True)


def test_an_anchor_that_was_kept(tmp_path):
    from mmsb.cli.app import commands

    make(tmp_path / "s")
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        kept = state.anchor
        assert state.verify(head=kept).anchored == state.seq
        state.page("a").write(b"later")
        state.sync()
        assert state.anchor != kept and not state.verify(head=kept).findings
        (finding,) = state.verify(head=bytes(range(32))).findings
        assert finding.kind == "kept anchor"
    runs = [CliRunner().invoke(commands, ["verify", str(tmp_path / "s"), "--head", text]) for text in
            (kept.hex(), bytes(range(32)).hex(), "nonsense")]  # fmt: skip
    assert [run.exit_code for run in runs] == [0, 1, 2]
    assert mmsb.open().anchor == bytes(32)


def test_another_thread_may_find_out_meanwhile_where_a_segment_ends(tmp_path):
    make(tmp_path / "store", checkpoints=[109])
    with mmsb.open(tmp_path / "store") as state:
        unread = [segment for segment in state._log.segments if segment.ends is not None]
        begun = Verification(state, None)
        for segment in unread:
            assert state.at(segment.base_seq + 1).page("a").size == 600
        assert any(segment.tail < segment.head.capacity for segment in unread)
        assert begun.run().findings == []
