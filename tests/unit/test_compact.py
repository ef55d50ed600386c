"""Compaction as a contract: what goes, what stays, and what is said about it."""

import os
import threading

import pytest

import mmsb
from mmsb import bases


def fill(state, first, last):
    if "a" not in state:
        state.create_page(500, name="a", metadata={"k": 1})
    for n in range(first, last):
        with state.batch(label=f"step {n}", source="filler") as b:
            b.write("a", n.to_bytes(2, "little") * 20, at=n % 400)
    return state


@pytest.fixture
def state(tmp_path):
    """Commit n + 2 is labelled 'step n'; segments of 4 KiB; checkpoints at 52, 102, 152."""
    with mmsb.open(tmp_path / "s", segment_bytes=4096, checkpoint_bytes=None) as state:
        for first in (0, 51, 101):
            fill(state, first, first + 51 if not first else first + 50)
            state.checkpoint()
        yield fill(state, 151, 200)


def names(state, folder):
    return sorted(os.listdir(os.path.join(state.path, folder)))


def test_a_dry_run_says_what_the_run_does(state):
    plan = state.compact(before=120, dry_run=True)
    assert state.first_seq == 0 and plan.dry_run
    report = state.compact(before=120)
    report.dry_run = True
    assert report.segments == plan.segments and report.labels == plan.labels and plan.forgotten_commits == 120
    assert set(plan.checkpoints) <= set(report.checkpoints)
    assert not any(os.path.exists(path) for path in report.segments + report.checkpoints)
    assert state.first_seq == report.first_seq == 120


def test_reopening_and_compacting_again(tmp_path, state):
    digests = {seq: state.at(seq).digest() for seq in (130, 150, state.seq)}
    for before in (60, 130):
        state.compact(before=before)
        assert state.first_seq == before and state.verify().findings == []
        assert {seq: state.at(seq).digest() for seq in digests} == digests
    state.close()
    for _ in range(2):
        with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
            assert state.first_seq == 130 and state._checkpoints.skipped == []
            assert {seq: state.at(seq).digest() for seq in digests} == digests
            assert [commit.seq for commit in state.log()] == list(range(131, state.seq + 1))
            assert state.verify().findings == []
            state.page("a").write(os.urandom(20))
            state.checkpoint()


def test_the_head_keeps_a_checkpoint_of_its_own(state):
    """The newest one built on what goes."""
    state.compact(before=140)
    assert state._checkpoints.last.seq >= 152
    state.page("a").write(os.urandom(400))
    state.checkpoint()
    assert state.verify().findings == []


@pytest.mark.parametrize("before", [1, 2, 52, 102, 152, 199, 201])
def test_any_seq_will_do(tmp_path, state, before):
    digests = {seq: state.at(seq).digest() for seq in range(before, state.seq + 1, 10)}
    state.compact(before=before)
    fill(state, 200, 220)
    for seq, digest in digests.items():
        assert state.at(seq).digest() == digest
    assert state.verify().findings == []
    head = state.digest()
    state.close()
    with mmsb.open(tmp_path / "s") as state:
        assert (state.first_seq, state.digest()) == (before, head)
        assert all(state.at(seq).digest() == digest for seq, digest in digests.items())
        assert state.verify().findings == []


def test_labels_before_the_horizon_still_stand_for_their_seqs(tmp_path, state):
    for before, label in ((60, "step 10"), (120, "step 70")):
        state.compact(before=before)
        with pytest.raises(mmsb.RetentionError) as caught:
            state.at(label)
        assert (caught.value.seq, caught.value.first_seq) == (int(label[5:]) + 2, before)
    state.close()
    with mmsb.open(tmp_path / "s") as state:
        for label in ("step 10", "step 70"):
            with pytest.raises(mmsb.RetentionError):
                state.at(label)
        assert state.at("step 118").seq == 120 and state.at("step 150").seq == 152


def test_labels_can_be_forgotten_too(state):
    state.compact(before=60)
    state.compact(before=120, keep_labels=False)
    with pytest.raises(LookupError) as caught:
        state.at("step 10")
    assert not isinstance(caught.value, mmsb.RetentionError)
    assert state.at("step 118").seq == 120


def test_asking_for_what_is_gone(state):
    state.compact(before=100)
    for call in (lambda: state.at(99), lambda: state.compact(before=99), lambda: state.fork(at=3)):
        with pytest.raises(mmsb.RetentionError) as caught:
            call()
        assert caught.value.first_seq == 100
    report = state.compact(before=100)
    assert (report.forgotten_commits, report.segments) == (0, [])


def test_the_last_write_is_none_that_was_forgotten(state):
    first = state._log.segment_of(100).base_seq + 1  # its segment stays, and begins before the horizon
    assert state.last_write("a", length=500, before=first + 4).seq == first + 3
    state.compact(before=first + 3)
    assert next(state.log()).seq == first + 4
    assert state.last_write("a", length=500, before=first + 4) is None
    assert state.last_write("a", length=500, before=first + 5).seq == first + 4


def test_a_view_of_what_went_says_so(state):
    view = state.at(10)
    state.compact(before=100)
    with pytest.raises(mmsb.RetentionError):
        view.page("a").read()


def test_only_a_stored_state_that_may_write(tmp_path, state):
    with mmsb.open() as memory, pytest.raises(mmsb.ReadOnlyError):
        memory.compact(before=0)
    with mmsb.open(tmp_path / "s", read_only=True) as reader, pytest.raises(mmsb.ReadOnlyError):
        reader.compact(before=10)


def test_a_damaged_base_is_refused_and_can_be_read_past(tmp_path, state):
    state.compact(before=120)
    digest, seq = state.digest(), state.seq
    state.checkpoint()
    state.close()
    (path,) = (tmp_path / "s" / "checkpoints").glob("*0120.ckpt")
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(mmsb.CorruptCheckpointError) as caught:
        mmsb.open(tmp_path / "s")
    assert caught.value.path == str(path)
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert (state.digest(), state.seq) == (digest, seq) and state.first_seq > 120
        assert any(finding.path == str(path) for finding in state.verify().findings)
    path.unlink()
    with pytest.raises(mmsb.CorruptCheckpointError):
        mmsb.open(tmp_path / "s")


def test_compressed_segments_go_as_well(tmp_path):
    with mmsb.open(tmp_path / "s", segment_bytes=4096, compress=True) as state:
        fill(state, 0, 200)
        state.sync()
        state.compact(before=150)
    with mmsb.open(tmp_path / "s") as state:
        assert state.first_seq == 150 and state.verify().findings == []
        assert len(names(state, "log")) == len(state._log.segments)


def test_the_past_while_another_thread_forgets_what_is_before_it(tmp_path, monkeypatch):
    """A compaction comes between what the past begins with and the segments that lead from there on."""

    def in_between(module, seq):
        really = module.segments_between

        def late(*arguments):
            monkeypatch.setattr(module, "segments_between", really)
            thread = threading.Thread(target=state.compact, args=(seq,))
            thread.start()
            thread.join()
            return really(*arguments)

        monkeypatch.setattr(module, "segments_between", late)

    with mmsb.open(tmp_path / "store", segment_bytes=4096, checkpoint_bytes=None) as state:
        page, child = state.create_page(64, name="a"), state.create_page(64)
        state.depend(child, page, kind="control")
        for number in range(900):
            page.write(bytes([number % 251]) * (number % 50 + 1))
        digest, epoch, view = state.at(800).digest(), state.at(800).page("a").epoch, state.at(800)
        in_between(bases, 100)
        assert [(edge.parent, edge.child) for edge in view.graph.edges()] == [(1, 2)]
        assert state.first_seq == 100
        shown = view.page("a")
        in_between(bases, 200)
        with state.stepper(800) as stepper:
            assert stepper.digest() == digest
            state.compact(300)
            in_between(bases, 400)
            assert (shown.epoch, view.digest()) == (epoch, digest)
            assert state.first_seq == 400
            replay = bases.replay
            monkeypatch.setattr(
                bases, "replay", lambda *these: (monkeypatch.undo(), state.compact(500), replay(*these))
            )
            assert state.stepper(800).digest() == digest
            assert state.first_seq == 500
            assert stepper.step(-200) == 600
            state.compact(700)
            with pytest.raises(mmsb.RetentionError):
                stepper._forward()
            assert stepper.goto(800) == 800
            assert stepper.digest() == digest
        assert not state.verify().findings


@pytest.mark.parametrize("rebase", [False, True])
def test_a_conflict_with_what_is_forgotten(state, rebase):
    """Commits that are gone look like a resize, since neither leaves a delta; and nothing can be rebased onto them."""
    state.compact(before=120)
    page = state.page("a")
    epoch = page.epoch
    with pytest.raises(mmsb.ConflictError, match=r"no longer kept.*decide anew\.$"):
        page.write(b"x", at=450, if_epoch=3, rebase=rebase)
    page.resize(600)
    with pytest.raises(mmsb.ConflictError, match="was resized since"):
        page.write(b"x", at=450, if_epoch=epoch, rebase=rebase)
    page.write(b"x", at=450, if_epoch=page.epoch, rebase=rebase)
