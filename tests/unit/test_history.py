"""Reading the log: commits by filter, a page's deltas and epochs, last writes, differences, sums."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb.history import statistics
from mmsb.testing.histories import random_history


def all_changes(state):
    """(frame, change) of the whole log, read frame by frame."""
    return [(frame, change) for frame in state._log.frames() if frame.kind == "commit" for change in frame.changes()]


def touches(change, page_id):
    """Whether a change is of a page."""
    if change.kind == "create":
        return change.page_id <= page_id < change.page_id + change.count
    return change.kind in ("delta", "delete", "resize", "rename", "metadata") and change.page_id == page_id


@given(st.integers(0, 1 << 32))
def test_filters_equal_a_literal_scan(seed):
    rng = random.Random(seed)
    with mmsb.open(segment_bytes=4096) as state:
        history = random_history(state, rng, 40)
        changes = all_changes(state)
        frames = [frame for frame in state._log.frames() if frame.kind == "commit"]
        assert [commit.seq for commit in state.log()] == list(range(1, 41))
        for source in ("a", "b", "c"):
            expected = [frame.seq for frame in frames if frame.source == source]
            assert [commit.seq for commit in state.log(source=source)] == expected
        for kind in ("delta", "create", "delete", "resize", "rename", "metadata", "label", "intent"):
            expected = sorted({frame.seq for frame, change in changes if change.kind == kind})
            assert [commit.seq for commit in state.log(kind=kind)] == expected
            limited = [seq for seq in expected if 10 <= seq <= 30 and frames[seq - 1].source == "a"]
            assert [commit.seq for commit in state.log(kind=kind, source="a", since=10, until=30)] == limited
        for label in sorted(set(history.labels.values())):
            expected = [seq for seq, text in history.labels.items() if text == label]
            assert [commit.seq for commit in state.log(label=label)] == expected
            assert state.at(label).seq == expected[-1]
        for page_id in range(1, state.next_page_id):
            expected = sorted({frame.seq for frame, change in changes if touches(change, page_id)})
            assert [commit.seq for commit in state.log(page=page_id)] == expected
        for commit in state.log():
            frame = frames[commit.seq - 1]
            assert (commit.time_ns, commit.source, commit.nbytes, commit.branch) == (
                frame.time_ns,
                frame.source,
                frame.nbytes,
                frame.branch,
            )
            assert commit.label == history.labels.get(commit.seq)
            assert commit.intent in (None, {"step": commit.seq - 1})
            assert [(delta.seq, delta.index) for delta in commit.deltas] == [
                (commit.seq, number) for number in range(len(commit.deltas))
            ]


@given(st.integers(0, 1 << 32))
def test_page_history_and_epochs(seed):
    with mmsb.open(segment_bytes=4096) as state:
        random_history(state, random.Random(seed), 30)
        changes = all_changes(state)
        for page_id in range(1, state.next_page_id):
            content, epoch, expected, versions = b"", 0, [], {}
            for frame, change in changes:
                if not touches(change, page_id):
                    continue
                if change.kind == "create":
                    content = bytearray(change.size)
                    if change.delta is not None:
                        change.delta.apply_to(content)
                elif change.kind == "resize":
                    content = content[: change.size] + bytes(max(change.size - len(content), 0))
                    epoch += 1
                elif change.kind == "delta":
                    change.delta.apply_to(content)
                    epoch += 1
                    delta = change.delta
                    expected.append((frame.seq, delta.index, epoch, delta.payload, frame.source, delta.intent))
                    assert delta.epoch == epoch
                versions[epoch] = bytes(content)
            found = [
                (delta.seq, delta.index, delta.epoch, delta.payload, delta.source, delta.intent)
                for delta in state._page_history(page_id)
            ]
            assert found == expected
            since = [delta.epoch for delta in state._page_history(page_id, since_epoch=epoch // 2)]
            assert since == [row[2] for row in expected if row[2] > epoch // 2]
            for number, version in versions.items():
                page = state._page_at_epoch(page_id, number)
                assert (page.epoch, page.read(), page.size) == (number, version, len(version))


@given(st.integers(0, 1 << 32))
def test_last_write_equals_a_literal_search(seed):
    rng = random.Random(seed)
    with mmsb.open(segment_bytes=4096) as state:
        random_history(state, rng, 30)
        changes = all_changes(state)
        for page_id in range(1, state.next_page_id):
            for before in (None, rng.randrange(1, 32)):
                at, length = rng.randrange(60), rng.randrange(1, 20)
                end, expected = at + length, None
                for frame, change in reversed(changes):
                    if not touches(change, page_id) or (before is not None and frame.seq >= before):
                        continue
                    if change.kind == "resize":
                        end = min(end, change.size)
                        if end <= at:
                            break
                    elif change.kind == "delta" and any(a < end and at < a + n for a, n in change.delta.ranges()):
                        expected = (frame.seq, change.delta.index)
                        break
                found = state.last_write(page_id, at=at, length=length, before=before)
                assert (None if found is None else (found.seq, found.index)) == expected


@given(st.integers(0, 1 << 32))
def test_diff_between_any_two_moments(seed):
    rng = random.Random(seed)
    with mmsb.open(segment_bytes=4096) as state:
        history = random_history(state, rng, 30)
        for _ in range(5):
            a, b = rng.randrange(31), rng.randrange(31)
            old, new = history.pictures[a], history.pictures[b]
            found = {difference.page_id: difference for difference in state.diff(a, b)}
            assert set(found) == {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
            for page_id, difference in found.items():
                if page_id not in old or page_id not in new:
                    assert difference.what == ("created" if page_id in new else "deleted")
                    continue
                (before, _, name, notes), (after, _, other_name, other_notes) = old[page_id], new[page_id]
                assert difference.resized == (len(before) != len(after))
                assert difference.renamed == (name != other_name)
                assert difference.metadata_changed == (notes != other_notes)
                content = bytearray(before)
                if difference.delta is not None:
                    difference.delta.apply_to(content)
                assert difference.resized or bytes(content) == after


def test_statistics_are_exact(rng):
    with mmsb.open(segment_bytes=4096) as state:
        random_history(state, rng, 60)
        frames = [frame for frame in state._log.frames() if frame.kind == "commit"]
        sums = statistics(state)
        assert {source: tuple(usage) for source, usage in sums.by_source.items()} == {
            source: (
                sum(frame.source == source for frame in frames),
                sum(len(frame.deltas()) for frame in frames if frame.source == source),
                sum(delta.nbytes for frame in frames if frame.source == source for delta in frame.deltas()),
                sum(frame.nbytes for frame in frames if frame.source == source),
            )
            for source in {frame.source for frame in frames}
        }
        deltas = [delta for frame in frames for delta in frame.deltas()]
        for page_id in {delta.page_id for delta in deltas}:
            mine = [delta for delta in deltas if delta.page_id == page_id]
            usage = sums.by_page[page_id]
            assert (usage.deltas, usage.changed_bytes) == (len(mine), sum(delta.nbytes for delta in mine))
            assert usage.commits >= len({delta.seq for delta in mine})
            assert usage.log_bytes > usage.changed_bytes
        assert sum(usage.commits for usage in statistics(state, 11, 20).by_source.values()) == 10


def test_the_log_is_lazy_and_ends_where_it_was_when_it_began():
    with mmsb.open() as state:
        page = state.create_page(8)
        commits = state.log()
        page.write(b"later")
        assert [commit.seq for commit in commits] == [1]
        endless = state.log()
        assert next(endless).seq == 1
        history = page.history()
        page.write(b"still")
        assert len(list(history)) == 1
        assert len(list(page.history())) == 2


def test_limits_by_label_and_time():
    now = [10**18]
    with mmsb.open(clock=lambda: now[0]) as state:
        for number in range(5):
            now[0] += 10**9
            with state.batch(label=f"l{number}"):
                pass
        third = datetime.fromtimestamp(10**9 + 3, UTC)
        assert [commit.seq for commit in state.log(since="l1", until="l3")] == [2, 3, 4]
        assert [commit.seq for commit in state.log(since=third)] == [3, 4, 5]
        assert [commit.seq for commit in state.log(until=third)] == [1, 2, 3]
        assert state.log(since=third).__next__().time == third
        assert list(state.log(since=9)) == []


def test_wrong_questions_have_typed_answers():
    with mmsb.open() as state:
        page = state.create_page(8, name="a")
        page.write(b"x")
        with pytest.raises(ValueError, match="no change of kind"):
            state.log(kind="wrong")
        for unknown in ("b", 9, 0):
            with pytest.raises(mmsb.PageNotFoundError):
                state.log(page=unknown)
        for at, length in ((-1, 1), (0, 0)):
            with pytest.raises(mmsb.PageRangeError):
                state.last_write(page, at=at, length=length)
        assert state.last_write(page, at=5) is None
        for epoch in (2, -1):
            with pytest.raises(mmsb.UnknownMomentError):
                page.at(epoch)
        page.delete()
        assert [commit.seq for commit in state.log(page=1)] == [1, 2, 3]
        assert state.last_write(1).seq == 2


def test_a_dropped_history(rng):
    with mmsb.open(segment_bytes=4096, history=16384) as state:
        page = state.create_page(1000, name="a")
        for _ in range(100):
            page.write(rng.randbytes(500))
        first = state.first_seq
        assert first > 1
        assert [delta.epoch for delta in page.history()] == list(range(first, 101))
        assert next(state.log()).seq == first + 1
        assert page.at(first - 1).epoch == first - 1
        with pytest.raises(mmsb.RetentionError):
            page.at(first - 2)
        with pytest.raises(mmsb.RetentionError):
            state.diff(1, state.seq)


def test_labels_and_intents_are_of_no_page():
    with mmsb.open() as state:
        page = state.create_page(8, name="a")
        with state.batch(source="somebody", label="here", intent={"why": 1}) as batch:
            batch.write(page, b"x")
        found = {change.kind: change.page_id for _, change in all_changes(state)}
        assert found == {"create": 1, "source": 1, "label": 0, "intent": 0, "delta": 1}


def test_a_deleted_page_is_known_behind_a_checkpoint(tmp_path):
    """The checkpoint does not know it; the log that is kept does."""
    with mmsb.open(tmp_path / "s", segment_bytes=4096, checkpoint_bytes=None) as state:
        page, other = state.create_page(8), state.create_page(512)
        page.write(b"a")
        page.write(b"b")
        kept = state.at(state.seq)
        state.delete_page(page)
        for n in range(1, 40):
            other.write(bytes([n]) * 512)
        state.checkpoint()
        for _ in range(2):
            assert [delta.epoch for delta in kept.page(1).history()] == [1, 2]
            assert kept.page(1).at(1).read() == b"a" + bytes(7) and state.last_write(1).epoch == 2
            state.compact(2)
            assert [delta.epoch for delta in kept.page(1).history()] == [1, 2]
        state.compact(20)
        with pytest.raises(mmsb.RetentionError):
            kept.page(1)
        with pytest.raises(mmsb.PageNotFoundError, match="up to seq"):
            list(state._page_history(1))
