"""Salvage: what is provably intact comes out, what is missing is named, nothing is invented; the store is only read."""

import errno
import json
import os
import shutil
import struct

import pytest
from click.testing import CliRunner

import mmsb
from mmsb import intact
from mmsb._core.files import Files
from mmsb._core.log import crc32c
from mmsb.cli.app import commands
from tests.formats.test_golden import GOLDEN
from tests.formats.test_golden import make as golden

KEY = bytes(range(32))


def make(path, checkpoints=(60, 80), compress=False, before=None, **how):
    """A store of 111 commits in several segments. {seq: digest}."""
    with mmsb.open(path, segment_bytes=4096, checkpoint_bytes=None, compress=compress, **how) as state:
        state.create_page(600, name="a", metadata={"k": 1})
        for n in range(110):
            with state.batch(label=f"step {n}", source=f"s{n % 3}", intent={"n": n}) as b:
                b.write("a", n.to_bytes(2, "little") * 30, at=n * 4)
            if n in checkpoints:
                state.checkpoint()
        digests = digests_of(state)
        if before is not None:
            state.compact(before)
        return digests


def digests_of(state):
    return {seq: state.at(seq).digest() for seq in range(state.first_seq, state.seq + 1)}


def commits_of(state):
    return [
        (c.seq, c.time_ns, c.source, c.branch, c.label, c.intent, [(d.page_id, d.ranges(), d.values) for d in c.deltas])
        for c in state.log()
    ]


def damage(path, offset, bits=0xFF):
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    path.write_bytes(data)


def segment(path, number):
    return path / "log" / f"{number:08d}.seg"


def frames(path, number):
    """(kind, offset, bytes, seq) of the frames of a segment."""
    files = intact.Intact(Files(), str(path), None)
    cursor = intact.Cursor(files.data(files.segments[number]), files.segments[number].head)
    return [(frame.kind, frame.offset, frame.nbytes, frame.seq) for frame in cursor]


def everything(path):
    return {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in path.rglob("*") if each.is_file()}


def salvaged(tmp_path, digests, expected, **how):
    """Salvages tmp_path/s; the stores must have these (first_seq, seq), and nothing but true states. The report."""
    before = everything(tmp_path / "s")
    report = mmsb.salvage(tmp_path / "s", tmp_path / "out", **how)
    assert everything(tmp_path / "s") == before
    assert [(saved.first_seq, saved.seq) for saved in report.saved] == expected
    names = sorted(f"out.until-{saved.seq}" for saved in report.saved[:-1]) + ["out"] * bool(report.saved)
    assert sorted(path.name for path in tmp_path.glob("out*")) == sorted(names)
    for saved in report.saved:
        with mmsb.open(saved.path, **how) as state:
            assert (state.first_seq, state.seq) == (saved.first_seq, saved.seq)
            assert digests_of(state).items() <= digests.items()
            assert state.digest() == saved.digest and not state.verify().findings
            state.create_page(10, name="goes on")
        with mmsb.open(saved.path, read_only=True, **how) as state:
            assert state.seq == saved.seq + 1 and not state.verify().findings
    return report


@pytest.mark.parametrize(
    "how", [{}, {"compress": True}, {"before": 65}, {"before": 65, "compress": True}, {"checkpoints": ()}]
)
def test_a_whole_store_comes_out_whole(tmp_path, how):
    digests = make(tmp_path / "s", **how)
    report = salvaged(tmp_path, digests, [(how.get("before", 0), 111)])
    assert report.complete and not report.damage
    with mmsb.open(tmp_path / "s", read_only=True) as one, mmsb.open(tmp_path / "out", read_only=True) as two:
        assert commits_of(one) == commits_of(two)[:-1] and one.uuid != two.uuid
        identity = two._store.identity
        assert (identity.parent_uuid, identity.parent_seq, identity.parent_digest) == (one.uuid, 111, digests[111])


@pytest.mark.parametrize("name", ["plain", "compacted", "keyed", "graph"])
def test_golden_stores_come_out_whole(tmp_path, name):
    shutil.copytree(GOLDEN / "v1" / name, tmp_path / "s")
    how = {"anchor_key": golden.KEY} if name == "keyed" else {}
    report = mmsb.salvage(tmp_path / "s", tmp_path / "out", **how)
    assert report.complete and not report.damage
    expected = json.loads((GOLDEN / "v1" / f"{name}.json").read_text())
    with mmsb.open(tmp_path / "out", read_only=True, **how) as state:
        assert json.loads(json.dumps(golden.facts(state))) == expected


def test_the_anchors_stay_those_that_somebody_may_have_kept(tmp_path):
    make(tmp_path / "s")
    mmsb.salvage(tmp_path / "s", tmp_path / "out")
    heads = []
    for name in ("s", "out"):
        with mmsb.open(tmp_path / name, read_only=True) as state:
            heads.append(state._log.horizon.mark.anchor)
    assert heads[0] == heads[1]


def test_a_new_store_and_a_fork(tmp_path):
    with mmsb.open(tmp_path / "s"):
        pass
    assert salvaged(tmp_path, {0: mmsb.open().digest()}, [(0, 0)]).complete
    digests = make(tmp_path / "parent")
    for name, commits in (("bare", 0), ("fork", 5)):
        with mmsb.open(tmp_path / "parent") as state, state.fork(at=70, path=tmp_path / name / "s") as fork:
            for n in range(commits):
                fork.page("a").write(bytes([n + 1]) * 4)
            digests = digests_of(fork)
        assert salvaged(tmp_path / name, digests, [(70, 70 + commits)]).complete


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("bare", "fork"):
        (tmp_path / name).mkdir()


# ---- damage in the log


def test_a_gap_ends_at_the_next_checkpoint(tmp_path):
    digests = make(tmp_path / "s")
    _, offset, size, seq = frames(tmp_path / "s", 2)[5]
    damage(segment(tmp_path / "s", 2), offset + 20)
    report = salvaged(tmp_path, digests, [(0, seq - 1), (62, 111)])
    (gap,) = report.missing
    assert (gap.first, gap.last, gap.lost, gap.whole) == (seq, 62, [(seq, seq)], [(seq + 1, 62)])
    assert (gap.pages, gap.touched) == ([], [(1, 1)])
    (found,) = report.damage
    assert (found.path, found.offset, found.end) == (str(segment(tmp_path / "s", 2)), offset, offset + size)
    assert not report.complete and report.end_known


def test_without_a_checkpoint_what_pages_held_is_not_known(tmp_path):
    digests = make(tmp_path / "s", checkpoints=())
    for path in (tmp_path / "s" / "checkpoints").iterdir():
        path.unlink()
    _, offset, _, seq = frames(tmp_path / "s", 2)[5]
    damage(segment(tmp_path / "s", 2), offset + 20)
    (gap,) = salvaged(tmp_path, digests, [(0, seq - 1)]).missing
    assert (gap.first, gap.last, gap.pages, gap.lost) == (seq, 111, [(1, 1)], [(seq, seq)])


@pytest.mark.parametrize("what", ["missing", "foreign", "empty", "a folder", "renamed"])
def test_a_segment_that_is_not_there(tmp_path, what):
    digests = make(tmp_path / "s", checkpoints=(100,))
    path = segment(tmp_path / "s", 2)
    if what == "foreign":
        make(tmp_path / "t")
        shutil.copy(segment(tmp_path / "t", 2), path)
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "renamed":
        shutil.copy(segment(tmp_path / "s", 1), path)
    else:
        path.unlink()
        if what == "a folder":
            path.mkdir()
    last = frames(tmp_path / "s", 1)[-1][3]
    report = salvaged(tmp_path, digests, [(0, last), (102, 111)])
    assert report.damage[0].path == str(path)


def test_a_header_follows_from_what_lies_before_it(tmp_path):
    digests = make(tmp_path / "s")
    for number in (1, 2):
        damage(segment(tmp_path / "s", number), 50)
    report = salvaged(tmp_path, digests, [(0, 111)])
    assert report.complete and [found.end for found in report.damage] == [128, 128]


@pytest.mark.parametrize("before", [None, 40, 65])
def test_an_anchor_may_be_lost(tmp_path, before):
    """Its neighbours prove that no commit stood there."""
    digests = make(tmp_path / "s", before=before)
    numbers = [int(path.name[:8]) for path in (tmp_path / "s" / "log").iterdir()]
    anchors = [(number, each) for number in numbers for each in frames(tmp_path / "s", number) if each[0] == "anchor"]
    assert len(anchors) >= 2
    for number, (_, offset, size, _) in anchors:
        data = bytearray(segment(tmp_path / "s", number).read_bytes())
        data[offset : offset + size] = bytes(size) if number == 2 else bytes([7]) * size
        segment(tmp_path / "s", number).write_bytes(data)
    report = salvaged(tmp_path, digests, [(before or 0, 111)])
    assert report.complete and report.damage


def test_an_anchor_that_does_not_match_ends_what_is_proven(tmp_path):
    """Somebody changed a commit, and made the checksums of all that follow right again, but not the anchors."""
    with mmsb.open(tmp_path / "s", segment_bytes=65536) as state:
        state.create_page(600, name="a")
        for n in range(30):
            state.page("a").write(bytes([n + 1]) * 9, at=n)
            if n in (10, 20):
                state.sync()
        digests = digests_of(state)
    source = intact.Intact(Files(), str(tmp_path / "s"), None)
    head, crc, out = source.segments[1].head, 0, bytearray()
    for frame in intact.Cursor(source.data(source.segments[1]), head):
        label = b"\x15\x04evil" if (frame.kind, frame.seq) == ("commit", 17) else b""
        data, crc = frame.copy(head, crc, label)
        out += data
    path = segment(tmp_path / "s", 1)
    path.write_bytes((path.read_bytes()[:128] + out).ljust(65536, b"\0"))
    report = salvaged(tmp_path, digests, [(0, 12)])
    (gap,) = report.missing
    assert (gap.first, gap.last, gap.whole) == (13, 31, [(13, 31)])
    assert "does not match" in report.damage[0].reason and report.damage[0].seq == 13


@pytest.mark.parametrize("level", ["zst", "cut"])
def test_a_compressed_segment_gives_what_can_be_unpacked(tmp_path, level):
    with mmsb.open(tmp_path / "s", segment_bytes=1 << 20, checkpoint_bytes=None, compress=True) as state:
        state.create_page(2000, name="a")
        for n in range(1400):
            state.page("a").write(os.urandom(900), at=n % 1000)
    path = tmp_path / "s" / "log" / "00000001.seg.zst"
    if level == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        damage(path, path.stat().st_size // 2)
    report = mmsb.salvage(tmp_path / "s", tmp_path / "out")
    assert not report.complete and report.saved and any(found.path == str(path) for found in report.damage)
    with mmsb.open(report.saved[0].path, read_only=True) as state, mmsb.open(tmp_path / "s", read_only=True):
        assert state.first_seq == 0 and state.seq > 300 and not state.verify().findings


def test_a_disk_that_does_not_give_a_block(tmp_path):

    class BadDisk(Files):
        def pread(self, fd, count, offset):
            if offset <= 4096 * 2 - 1 < offset + count and os.readlink(f"/proc/self/fd/{fd}").endswith("1.seg"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().pread(fd, count, offset)

    with mmsb.open(tmp_path / "s", segment_bytes=1 << 16) as state:
        state.create_page(600, name="a")
        for n in range(200):
            state.page("a").write(os.urandom(60), at=n)
    report = mmsb.salvage(tmp_path / "s", tmp_path / "out", files=BadDisk())
    (gap,) = report.missing
    assert gap.lost == [(report.saved[0].seq + 1, gap.whole[0][0] - 1)] and gap.whole[0][1] == 201
    assert ("Input/output error", 4096, 8192) in [(found.reason, found.offset, found.end) for found in report.damage]


def test_a_torn_tail_is_no_loss(tmp_path):
    state = mmsb.open(tmp_path / "live", segment_bytes=4096)
    state.create_page(100, name="a").write(b"whole")
    state.sync()
    tail = state._active_tail
    shutil.copytree(tmp_path / "live", tmp_path / "s")
    state.close()
    data = bytearray(segment(tmp_path / "s", 1).read_bytes())
    data[tail : tail + 40] = bytes(range(1, 41))
    segment(tmp_path / "s", 1).write_bytes(data)
    report = mmsb.salvage(tmp_path / "s", tmp_path / "out")
    assert report.complete and report.saved[0].seq == 2
    assert [(found.offset, found.end) for found in report.damage] == [(tail, None)]


def test_the_end_of_a_log_that_nothing_speaks_of(tmp_path):
    digests = make(tmp_path / "s", checkpoints=())
    for path in (tmp_path / "s" / "checkpoints").iterdir():
        path.unlink()
    (tmp_path / "s" / "horizon").write_bytes(bytes(5000))
    report = salvaged(tmp_path, digests, [(0, 111)])
    assert not report.end_known and not report.missing and not report.complete


def test_what_the_horizon_promises_is_missing(tmp_path):
    digests = make(tmp_path / "s", checkpoints=())
    for path in (tmp_path / "s" / "checkpoints").iterdir():
        path.unlink()
    number = max(int(path.name[:8]) for path in (tmp_path / "s" / "log").iterdir())
    commits = [frame for frame in frames(tmp_path / "s", number) if frame[0] == "commit"]
    data = segment(tmp_path / "s", number).read_bytes()
    segment(tmp_path / "s", number).write_bytes(data[: commits[-2][1]].ljust(len(data), b"\0"))
    (gap,) = salvaged(tmp_path, digests, [(0, 109)]).missing
    assert (gap.first, gap.last, gap.lost, gap.whole) == (110, 111, [(110, 111)], [])


def test_a_foreign_commit_that_fits_nothing_is_left_out(tmp_path):
    digests = make(tmp_path / "s", checkpoints=())
    from tests.crash.test_hostile_links import DELETE, append, change

    append(tmp_path / "s", change(DELETE, 77))
    report = salvaged(tmp_path, digests, [(0, 111)])
    assert any(found.seq == 112 for found in report.damage) and not report.complete


# ---- other files


def test_the_file_store_is_told_by_the_others(tmp_path):
    digests = make(tmp_path / "s")
    for content in (b"nonsense", None):
        if content is None:
            (tmp_path / "s" / "store").unlink()
        else:
            (tmp_path / "s" / "store").write_bytes(content)
        report = salvaged(tmp_path, digests, [(0, 111)])
        assert report.complete and report.damage[0].path == str(tmp_path / "s" / "store")
        shutil.rmtree(tmp_path / "out")


def test_checkpoints_alone(tmp_path):
    digests = make(tmp_path / "s")
    for path in (tmp_path / "s" / "log").iterdir():
        damage(path, 50)
        damage(path, 140)
    report = salvaged(tmp_path, digests, [(62, 62), (82, 82)])
    assert [(gap.first, gap.last) for gap in report.missing] == [(1, 62), (63, 82), (83, 111)]


def test_the_base_of_a_compacted_history_is_gone(tmp_path):
    digests = make(tmp_path / "s", before=70)
    damage(tmp_path / "s" / "checkpoints" / f"{70:020d}.ckpt", 300)
    report = salvaged(tmp_path, digests, [(82, 111)])
    assert report.missing[0].last == 82


def test_nothing_to_save(tmp_path):
    make(tmp_path / "s", checkpoints=())
    for path in [*(tmp_path / "s" / "log").iterdir(), *(tmp_path / "s" / "checkpoints").iterdir()]:
        damage(path, 140 if path.name == "00000001.seg" else 50)
    report = salvaged(tmp_path, {}, [])
    assert not report.complete and report.missing[0].first == 1
    for path in (tmp_path / "s" / "log").iterdir():
        path.unlink()
    (tmp_path / "s" / "store").unlink()
    with pytest.raises(mmsb.NotAStoreError, match="what store this is"):
        mmsb.salvage(tmp_path / "s", tmp_path / "out")


def test_keys(tmp_path):
    digests = make(tmp_path / "s", anchor_key=KEY)
    for key in (None, bytes(32)):
        with pytest.raises(ValueError, match="key"):
            mmsb.salvage(tmp_path / "s", tmp_path / "out", anchor_key=key)
    assert salvaged(tmp_path, digests, [(0, 111)], anchor_key=KEY).complete
    make(tmp_path / "plain")
    with pytest.raises(ValueError, match="no keyed anchors"):
        mmsb.salvage(tmp_path / "plain", tmp_path / "out2", anchor_key=KEY)


# ---- who may


def test_a_living_owner_is_not_disturbed(tmp_path):
    make(tmp_path / "s")
    with mmsb.open(tmp_path / "s"), pytest.raises(mmsb.StoreLockedError, match=f"pid {os.getpid()}"):
        mmsb.salvage(tmp_path / "s", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_what_is_there_stays(tmp_path):
    make(tmp_path / "s")
    for taken in ("out", "out.new"):
        (tmp_path / taken).mkdir()
        with pytest.raises(mmsb.NotAStoreError, match="exists already"):
            mmsb.salvage(tmp_path / "s", tmp_path / "out")
        (tmp_path / taken).rmdir()
    with pytest.raises(mmsb.NotAStoreError, match="no directory"):
        mmsb.salvage(tmp_path / "s", tmp_path / "no" / "out")
    for nothing in (tmp_path / "nowhere", tmp_path / "bare"):
        with pytest.raises(mmsb.NotAStoreError):
            mmsb.salvage(nothing, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("kind", ["pwrite", "fdatasync", "rename", "mkdir"])
def test_never_half_a_store(tmp_path, kind):
    make(tmp_path / "s", checkpoints=(60,))
    for nth in range(1, 6):
        files = Files(faulty=True)
        files.arm(kind, nth, "fail", 28)
        try:
            mmsb.salvage(tmp_path / "s", tmp_path / "out", files=files)
        except (OSError, mmsb.MMSBError):
            assert not list(tmp_path.glob("out*"))
        else:
            with mmsb.open(tmp_path / "out", read_only=True) as state:
                assert state.seq == 111 and not state.verify().findings
            shutil.rmtree(tmp_path / "out")


def test_progress_reaches_the_end(tmp_path):
    make(tmp_path / "s")
    steps = []
    mmsb.salvage(tmp_path / "s", tmp_path / "out", progress=lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps) and steps[-1][0] == steps[-1][1]


# ---- the command


def run(*words, code):
    result = CliRunner().invoke(commands, [str(word) for word in words], prog_name="mmsb")
    assert result.exit_code == code, result.output
    return result.output


def test_the_command(tmp_path):
    make(tmp_path / "s")
    assert "nothing is missing" in run("salvage", tmp_path / "s", tmp_path / "one", code=0)
    _, offset, _, seq = frames(tmp_path / "s", 2)[5]
    damage(segment(tmp_path / "s", 2), offset + 20)
    text = run("salvage", tmp_path / "s", tmp_path / "two", code=1)
    assert f"Commits {seq} to 62 are missing. Nothing is left of {seq}." in text
    assert f"From commit 62 on all pages are known again, in {tmp_path / 'two'}." in text
    facts = json.loads(run("salvage", tmp_path / "s", tmp_path / "three", "--json", code=1))
    assert [each["seq"] for each in facts["saved"]] == [seq - 1, 111] and not facts["complete"]
    run("salvage", tmp_path / "s", tmp_path / "three", code=2)
    for path in [*(tmp_path / "s" / "log").iterdir(), *(tmp_path / "s" / "checkpoints").iterdir()]:
        damage(path, 140 if path.name == "00000001.seg" else 50)
    assert "nothing could be saved" in run("salvage", tmp_path / "s", tmp_path / "four", code=2)


def test_hostile_numbers(tmp_path):
    """A header with an intact checksum may say anything."""
    make(tmp_path / "s", checkpoints=())
    path = segment(tmp_path / "s", 1)
    for at, value in ((48, 1 << 63), (56, (1 << 64) - 1), (72, 0), (72, 1 << 62), (112, (1 << 64) - 1)):
        data = bytearray(path.read_bytes())
        whole = bytes(data)
        struct.pack_into("<Q", data, at, value)
        struct.pack_into("<I", data, 124, crc32c(bytes(data[:124])))
        path.write_bytes(data)
        try:
            mmsb.salvage(tmp_path / "s", tmp_path / "out")
        except mmsb.MMSBError:
            pass
        for out in tmp_path.glob("out*"):
            shutil.rmtree(out)
        path.write_bytes(whole)


def test_a_number_far_from_the_others_is_no_list_of_all_between(tmp_path):
    digests = make(tmp_path / "s")
    shutil.copyfile(segment(tmp_path / "s", 2), segment(tmp_path / "s", 99_999_999))
    report = mmsb.salvage(tmp_path / "s", tmp_path / "out")
    assert report.saved[-1].digest == digests[report.saved[-1].seq] and report.saved[-1].seq == 111
    assert len(report.damage) < 200
    assert any("all others before segment 99999999" in damage.reason for damage in report.damage)
