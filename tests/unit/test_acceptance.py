"""The black-box acceptance list, point by point: one test each, its number in the name, through the public face.

Other suites go deeper into most points; here each is walked once from end to end, in memory and stored on disk where
that matters. The points of the graph and of propagation (20 to 30) come with them.
"""

import itertools
import os
import random
import shutil
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import mmsb
from mmsb import metadata, upstream
from mmsb.digest import core_digest
from mmsb.testing.histories import random_history
from mmsb.testing.model import picture_of

UPSTREAM = Path(__file__).parents[1] / "golden" / "upstream"


@pytest.fixture(params=["memory", "stored"])
def state(request, tmp_path):
    """A State of each kind; a stored one is verified when the test is over."""
    with mmsb.open(tmp_path / "store" if request.param == "stored" else None) as state:
        yield state
        assert not state.verify().findings


def unchanged(state):
    """What a rejected change must leave as it was, down to the bytes of the log."""
    return state.seq, state.digest(), picture_of(state), state.stats()["log"]["bytes"]


def crashed(state, to):
    """A copy of an open State's store, as its process would leave it if it died now."""
    shutil.copytree(state.path, to)
    return to


def newest_segment(path):
    return max((path / "log").iterdir())


def test_acceptance_01_create_and_read_a_zero_page(state):
    page = state.create_page(4096, name="zero")
    assert (page.page_id, page.size, page.epoch, page.location) == (1, 4096, 0, "cpu")
    assert page.read() == bytes(4096) == state.query_page("zero") and state.seq == 1


def test_acceptance_02_size_zero_is_rejected(state):
    before = unchanged(state)
    for create in (lambda: state.create_page(0), lambda: state.create_pages(3, 0), lambda: state.create_page(data=b"")):
        with pytest.raises(mmsb.PageSizeError):
            create()
    assert unchanged(state) == before


def test_acceptance_03_bad_location_is_rejected(state):
    before = unchanged(state)
    with pytest.raises(mmsb.UnsupportedLocationError) as caught:
        state.create_page(16, location="gpu:7")
    assert caught.value.location == "gpu:7" and isinstance(caught.value, ValueError) and unchanged(state) == before


def test_acceptance_04_duplicate_ids_and_names_are_rejected(state):
    first = state.create_page(16, name="a")
    before = unchanged(state)
    with pytest.raises(mmsb.DuplicateNameError) as caught:
        state.create_page(16, name="a")
    assert caught.value.page_id == first.page_id and unchanged(state) == before
    with pytest.raises(mmsb.InvalidDeltaError):  # as a damaged checkpoint or log would have it
        state._load_page(first.page_id, 16, 0, 0)
    first.delete()
    assert state.create_page(16, name="a").page_id == first.page_id + 1


def test_acceptance_05_masked_dense_write(state):
    page = state.create_page(8, data=b"ABCDEFGH")
    delta = state.route_delta(state.create_delta(page, [1, 0, 0, 1, 0, 0, 0, 1], b"01234567", source="dense"))
    assert page.read() == b"0BC3EFG7" and delta.source == "dense"
    assert (delta.ranges(), delta.values) == ([(0, 1), (3, 1), (7, 1)], b"037")


def test_acceptance_06_sparse_write(state):
    page = state.create_page(8)
    delta = state.create_delta(page, [True, False] * 4, bytes([11, 22, 33, 44]))
    assert state.route_delta(delta).nbytes == 4 and list(page.read()) == [11, 0, 22, 0, 33, 0, 44, 0]


def test_acceptance_07_wrong_lengths_leave_the_page_unchanged(state):
    page = state.create_page(8, data=b"ABCDEFGH")
    before = unchanged(state)
    for mask, data in (([1] * 7, b"x" * 7), ([1] * 9, b"x" * 9), ([1, 1] + [0] * 6, b"xyz"), ([1] * 8, b""), ([], b"")):
        with pytest.raises(mmsb.InvalidDeltaError):
            state.create_delta(page, mask, data)
    other_size = mmsb.Delta.from_ranges(page.page_id, [(6, 4)], b"xxxx")
    for write in (
        lambda: state.apply(other_size),
        lambda: state.update_page(page, b"short"),
        lambda: page.write(b"x", 8),
    ):
        with pytest.raises((mmsb.InvalidDeltaError, mmsb.PageRangeError)):
            write()
    assert unchanged(state) == before


def test_acceptance_08_wrong_page_ids_are_rejected(state):
    gone = state.create_page(8)
    gone.delete()
    before = unchanged(state)
    delta = mmsb.Delta.from_ranges(99, [(0, 1)], b"x")
    for wrong in (99, 0, -1, 1 << 64, gone.page_id, "nobody"):
        for use in (state.page, state.query_page, state.delete_page, lambda page: state.update_page(page, bytes(8))):
            with pytest.raises(mmsb.PageNotFoundError):
                use(wrong)
    for use in (lambda: state.apply(delta), lambda: gone.write(b"x"), gone.read):
        with pytest.raises(mmsb.PageNotFoundError):
            use()
    assert unchanged(state) == before


def test_acceptance_09_an_equal_update_makes_no_delta(state):
    page = state.create_page(8, data=b"ABCDEFGH")
    before = unchanged(state)
    assert state.update_page(page, b"ABCDEFGH") is None and page.write(b"CD", at=2) is None
    with page.edit() as array:
        array[0] = ord("A")
    assert state.apply(mmsb.Delta.from_ranges(page.page_id, [(1, 1)], b"B")) is None
    assert unchanged(state) == before


def test_acceptance_10_epochs_rise_by_one_and_never_go_back(state):
    page = state.create_page(8)
    for epoch in range(1, 6):
        assert page.write(bytes([epoch])).epoch == page.epoch == epoch
    with state.batch() as batch:
        for n in range(3):
            batch.write(page, bytes([100 + n]), at=n)
        batch.resize(page, 16)
    assert page.epoch == 9 and [delta.epoch for delta in page.history()] == list(range(1, 9))
    with pytest.raises(mmsb.ConflictError) as caught:
        page.write(b"late", if_epoch=3)
    assert (caught.value.epoch, page.epoch) == (9, 9)


def test_acceptance_11_merge_equals_applying_in_turn(rng):
    for _ in range(300):
        size = rng.choice([1, 7, 64, 300, 5000])
        versions = [rng.randbytes(size)]
        for _ in range(2):
            changed = bytearray(versions[-1])
            for _ in range(rng.randrange(1, 9)):
                at = rng.randrange(size)
                changed[at : at + rng.choice([1, 16, 200])] = rng.randbytes(min(size - at, rng.choice([1, 16, 200])))
            versions.append(bytes(changed[:size].ljust(size, b"\1")))
        deltas = [mmsb.Delta.between(1, *pair) for pair in zip(versions, versions[1:], strict=False)]
        if None in deltas:
            continue
        merged, page = deltas[0].merge(deltas[1]), bytearray(versions[0])
        merged.apply_to(page)
        assert page == versions[2]
        with mmsb.open() as state:
            state.create_page(data=versions[0])
            state.apply(merged)
            assert state.page(1).read() == versions[2] and state.page(1).epoch == 1


def test_acceptance_12_a_compacted_log_replays_to_the_same(tmp_path, rng):
    """Pages interleaved; every seq from the cut on looks as it did, and so does a fold of each page's deltas."""
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        history = random_history(state, rng, 150)
        assert state.compact(90).first_seq == 90
    with mmsb.open(tmp_path / "s") as state:
        assert core_digest(state.replay()) == history.digests[-1]
        for seq in range(90, 151):
            assert picture_of(state.at(seq)) == history.pictures[seq] and state.at(seq).digest() == history.digests[seq]
        with pytest.raises(mmsb.RetentionError) as caught:
            state.at(89)
        assert caught.value.first_seq == 90 and not state.verify().findings
    merged, left, right = {}, bytearray(50), bytearray(50)
    with mmsb.open() as state:
        pages = {
            page.page_id: content for page, content in ((state.create_page(50), left), (state.create_page(50), right))
        }
        for _ in range(100):  # interleaved: any two deltas of one page have others between them
            for page_id in pages:
                delta = state.page(page_id).write(rng.randbytes(3), at=rng.randrange(47))
                if delta is not None:
                    merged[page_id] = merged[page_id].merge(delta) if page_id in merged else delta
        for page_id, content in pages.items():
            merged[page_id].apply_to(content)
            assert content == state.page(page_id).read()


def test_acceptance_13_metadata_comes_back_or_is_refused(tmp_path):
    notes = {"bytes": b"\0\xff", "text": "\u00e9", "int": -(2**80), "float": -0.0, "flag": True, "n\u00e4me": ""}
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(8, name="a", metadata=notes)
    with mmsb.open(tmp_path / "s") as state:
        found = dict(state.page("a").metadata)
        assert found == notes and [type(found[key]) for key in notes] == [type(value) for value in notes.values()]
    blob = metadata.encode(notes)
    assert metadata.decode(blob) == notes
    for cut in range(1, len(blob)):
        with pytest.raises(mmsb.MetadataError):
            metadata.decode(blob[:cut])
    for damaged in (
        blob.replace("\u00e9".encode(), b"\xff\xfe"),
        blob.replace("n\u00e4me".encode(), b"n\xff\xffme"),
        blob + b"\0",
    ):
        with pytest.raises(mmsb.MetadataError):
            metadata.decode(damaged)
    source = tmp_path / "a.chk"  # and the blob of the first MMSB
    pairs = struct.pack("<II", 1, 2) + b"\xff\xfe" + struct.pack("<I", 1) + b"v"
    page = struct.pack("<QQIiI", 1, 1, 0, 0, len(pairs)) + pairs + struct.pack("<I", 1) + b"x"
    source.write_bytes(b"MMSBSNAP" + struct.pack("<IIQ", 1, 1, 0) + page)
    with mmsb.open() as state, pytest.raises(mmsb.CorruptCheckpointError):
        upstream.import_checkpoint(source, state)


def test_acceptance_14_a_checkpoint_restores_everything(tmp_path, rng):
    """The graph joins the list when there is one: its records are checked by this test's picture."""
    with mmsb.open(tmp_path / "s") as state:
        history = random_history(state, rng, 80)
        next_page_id = state.next_page_id
        assert state.checkpoint() == 80
        state.stop(checkpoint_path=tmp_path / "one.mmsb")
    for source in (tmp_path / "s", tmp_path / "one.mmsb"):
        with mmsb.open(source) as state:
            assert picture_of(state) == history.pictures[80] and state.digest() == history.digests[80]
            assert (state._checkpoints.last if state.path else state._log.base).seq == 80  # not replayed
            assert state.seq == 80 and state.create_page(8).page_id == next_page_id
    with mmsb.open(tmp_path / "new", start=tmp_path / "one.mmsb") as state:
        assert picture_of(state) == history.pictures[80]


def test_acceptance_15_damaged_checkpoints_and_logs_are_detected(tmp_path, rng):
    with mmsb.open(tmp_path / "s", segment_bytes=8192) as state:
        random_history(state, rng, 40)
        state.checkpoint()
        expected = picture_of(state)
        state.stop(checkpoint_path=tmp_path / "one.mmsb")
    whole = (tmp_path / "one.mmsb").read_bytes()
    bad = tmp_path / "bad.mmsb"
    for damaged in [whole[:cut] for cut in range(7, len(whole), 41)] + [flipped(whole, rng) for _ in range(60)]:
        bad.write_bytes(damaged)
        with pytest.raises((mmsb.CorruptCheckpointError, mmsb.FormatVersionError, mmsb.NotAStoreError)):
            mmsb.open(bad)
    (tmp_path / "garbage").write_bytes(b"garbage")
    with pytest.raises(mmsb.NotAStoreError):
        mmsb.open(tmp_path / "garbage")
    for folder in ("log", "checkpoints"):
        (file,) = list((tmp_path / "s" / folder).iterdir())[:1]
        content = file.read_bytes()
        used = content.rstrip(b"\0")
        for damaged in [flipped(used, rng) for _ in range(20)] + [used[: len(used) // 2]]:
            file.write_bytes(damaged.ljust(len(content), b"\0") if folder == "log" else damaged)
            try:
                with mmsb.open(tmp_path / "s", read_only=True) as state:
                    assert state.verify().findings
            except (mmsb.CorruptLogError, mmsb.FormatVersionError):
                pass
        file.write_bytes(content)
    with mmsb.open(tmp_path / "s") as state:
        assert picture_of(state) == expected and not state.verify().findings


def flipped(data, rng):
    """The bytes with one bit flipped."""
    damaged = bytearray(data)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


@pytest.mark.parametrize("cut", [1, 5, 9, 30])
def test_acceptance_16_a_torn_tail_is_cut_and_the_log_goes_on(tmp_path, cut):
    ticks = itertools.count(10**18, 10**6)  # how much padding a frame ends with depends on its time
    with mmsb.open(tmp_path / "live", clock=lambda: next(ticks)) as state:
        page = state.create_page(64, name="a")
        page.write(b"kept")
        state.sync()
        with state._log.sync_lock:  # nothing is made durable in the background
            page.write(bytes(range(40)), at=10)
            end = state._active_tail
            path = crashed(state, tmp_path / "crashed")
    segment = newest_segment(path)
    data = bytearray(segment.read_bytes())
    data[end - cut : end] = bytes(cut)
    data[end + 100 : end + 200] = random.Random(cut).randbytes(100)  # what a disk leaves there
    segment.write_bytes(data)
    with mmsb.open(path) as state:
        assert state.seq == 2 and state.page("a")[:4] == b"kept" and os.listdir(path / "torn")
        for n in range(5):
            state.page("a").write(bytes([n + 1]) * 8, at=n * 8)
    with mmsb.open(path) as state:
        assert state.seq == 7 and state.page("a").read()[:40] == b"".join(bytes([n + 1]) * 8 for n in range(5))
        assert [commit.seq for commit in state.log()] == list(range(1, 8)) and not state.verify().findings


@pytest.mark.parametrize("stored", [False, True])
def test_acceptance_17_replay_to_every_moment_equals_the_live_history(tmp_path, rng, stored):
    ticks = iter(range(10**18, 10**19, 10**6))
    with mmsb.open(tmp_path / "s" if stored else None, clock=lambda: next(ticks)) as state:
        history = random_history(state, rng, 80)
        epochs = {}  # (page, epoch): bytes, from the pictures
        for seq, commit in enumerate(state.log(), 1):
            assert commit.seq == seq and core_digest(state.replay(seq)) == history.digests[seq]
            for when in (seq, commit.time, commit.time + timedelta(microseconds=999)):
                assert picture_of(state.at(when)) == history.pictures[seq]
            for page_id, (content, epoch, _, _) in history.pictures[seq].items():
                epochs[page_id, epoch] = content
            for index, delta in enumerate(commit.deltas):
                assert (delta.seq, delta.index) == (seq, index)
                after = state.at(seq)
                if delta.page_id in after and delta.epoch == after.page(delta.page_id).epoch:
                    assert after.page(delta.page_id).read()[slice(*span(delta))] == last_bytes(delta)
        for (page_id, epoch), content in epochs.items():
            assert state.at(seq_of(history, page_id)).page(page_id).at(epoch).read() == content
        assert picture_of(state.at(datetime.now(UTC) + timedelta(days=36500))) == history.pictures[80]


def span(delta):
    """(start, end) of a delta's last run."""
    at, length = delta.ranges()[-1]
    return at, at + length


def last_bytes(delta):
    """The values of that run."""
    return delta.values[-delta.ranges()[-1][1] :]


def seq_of(history, page_id):
    """A seq at which the page was there."""
    return next(seq for seq in reversed(range(len(history.pictures))) if page_id in history.pictures[seq])


def test_acceptance_18_replay_over_pages_that_were_deleted_later(state):
    kept, doomed = state.create_page(16, name="kept"), state.create_page(data=b"to be deleted", name="doomed")
    doomed.write(b"written", at=0)
    kept.write(b"x")
    seq, digest = state.seq, state.digest()
    doomed.delete()
    kept.write(b"y")
    assert state.at(seq).page("doomed").read() == b"writteneleted" and state.at(seq).digest() == digest
    assert core_digest(state.replay(seq)) == digest and core_digest(state.replay()) == state.digest()
    assert "doomed" not in state and [delta.values for delta in state.at(seq).page("doomed").history()] == [b"written"]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_acceptance_19_two_sessions_share_one_log(tmp_path, checkpoint):
    digests = {}
    for session in range(2):
        with mmsb.open(tmp_path / "s") as state:
            for n in range(10):
                page = state.create_page(8, name=f"{session}.{n}")
                page.write(bytes([session + 1, n + 1]), source=f"session {session}")
                digests[state.seq] = state.digest()
            if checkpoint:
                state.checkpoint()
    with mmsb.open(tmp_path / "s") as state:
        assert state.seq == 40 and [page.page_id for page in state.pages()] == list(range(1, 21))
        assert {seq: state.at(seq).digest() for seq in digests} == digests
        assert [commit.seq for commit in state.log(source="session 1")] == list(range(22, 41, 2))
        times = [commit.time_ns for commit in state.log()]
        assert times == sorted(times) and not state.verify().findings


@pytest.mark.parametrize("stored", [False, True])
def test_acceptance_31_fuzz_with_byte_equality(tmp_path, rng, stored):
    """Random masked deltas, writes and batches against bytearrays: every byte, also of the past and replayed."""
    path = tmp_path / "s" if stored else None
    contents = [bytearray(size) for size in (1, 128, 1024, 5000)]
    moments = []
    with mmsb.open(path, segment_bytes=16384) as state:
        pages = [state.create_page(len(content)) for content in contents]
        first = state.seq
        moments.append([bytes(content) for content in contents])
        for _ in range(400):
            with state.batch() as batch:
                for _ in range(rng.randrange(1, 4)):
                    choice = rng.randrange(4)
                    page, content = pages[choice], contents[choice]
                    at = rng.randrange(len(content))
                    length = min(len(content) - at, rng.choice([1, 2, 16, 100, 5000]))
                    if rng.random() < 0.5:
                        batch.write(page, (data := rng.randbytes(length)), at=at)
                        content[at : at + length] = data
                    else:
                        mask = [rng.random() < 0.3 for _ in content]
                        data = rng.randbytes(len(content))
                        if any(mask):
                            batch.apply(state.create_delta(page, mask, data))
                            content[:] = (
                                new if hit else old for hit, old, new in zip(mask, content, data, strict=True)
                            )
            assert [page.read() for page in pages] == contents
            moments.append([bytes(content) for content in contents])
        for seq in rng.sample(range(len(moments)), 60):
            past, core = state.at(first + seq), state.replay(first + seq)
            assert [past.page(page.page_id).read() for page in pages] == moments[seq]
            assert [bytes(core._page_bytes(page.page_id)) for page in pages] == moments[seq]
        assert not state.verify().findings
    if stored:
        with mmsb.open(path) as state:
            assert [page.read() for page in state.pages()] == contents


def test_acceptance_32_files_of_the_first_mmsb_are_imported(tmp_path):
    with mmsb.open(tmp_path / "log") as state:
        report = upstream.import_log(UPSTREAM / "test.tlog", state)
        (commit,) = state.log()
        assert (report.frames, report.fault_count, commit.source) == (1, 0, "test_source")
    with mmsb.open(tmp_path / "log") as state:
        assert state.page("page-42").read() == b"\x2a" and not state.verify().findings
    with mmsb.open(tmp_path / "checkpoint") as state:
        assert upstream.import_checkpoint(UPSTREAM / "test.chk", state).pages == 1
    with mmsb.open(tmp_path / "checkpoint") as state:
        page = state.page("page-42")
        assert page.read() == b"\x2a" + b"\x63" * 4095 and page.metadata["test"] == b"meta"


def test_acceptance_36_an_upsert_whose_predicate_is_false_writes_nothing(state):
    page = state.create_page(8, data=b"ABCDEFGH")
    before = unchanged(state)
    asked = []
    assert page.update(b"abcdefgh", when=lambda old: asked.append(old) or old == b"other") is None
    assert page.update(lambda old: None) is None
    assert asked == [b"ABCDEFGH"] and unchanged(state) == before
    assert page.update(b"abcdefgh", when=lambda old: old == b"ABCDEFGH").epoch == 1 and page.read() == b"abcdefgh"


def test_acceptance_37_intent_survives_log_and_replay(tmp_path):
    intent = {"goal": "tidy", "weight": 0.5, "raw": b"\0\1", "step": 7, "final": False}
    with mmsb.open(tmp_path / "s") as state:
        page = state.create_page(8, name="a")
        page.write(b"one", intent=intent)
        with state.batch(intent={"of": "a batch"}) as batch:
            batch.write(page, b"two")
        page.write(b"three")
        assert page.history().__next__().intent == intent
    with mmsb.open(tmp_path / "s") as state:
        assert [commit.intent for commit in state.log()] == [None, intent, {"of": "a batch"}, None]
        assert [delta.intent for delta in state.page("a").history()] == [intent, {"of": "a batch"}, None]
        assert [commit.seq for commit in state.log(kind="intent")] == [2, 3]
        assert state.last_write("a", before=3).intent == intent and state.apply(state.last_write("a", before=3))
        assert [commit.intent for commit in state.log(since=5)] == [intent]  # a delta applied again says why


@pytest.mark.parametrize("stored", [False, True])
def test_acceptance_38_ten_thousand_cycles_keep_the_invariants(tmp_path, rng, stored):
    path = tmp_path / "s" if stored else None
    with mmsb.open(path, segment_bytes=1 << 20) as state:
        pages = [state.create_page(256) for _ in range(16)]
        contents, epochs, digests = [bytearray(256) for _ in pages], [0] * 16, {}
        for cycle in range(10_000):
            which, at = rng.randrange(16), rng.randrange(240)
            data, page, seq = rng.randbytes(rng.randrange(1, 16)), pages[which], state.seq
            changes = contents[which][at : at + len(data)] != data
            delta = page.write(data, at=at)
            contents[which][at : at + len(data)] = data
            epochs[which] += changes
            assert (delta is not None) == changes and page.epoch == epochs[which] and state.seq == seq + changes
            if cycle % 500 == 0:
                assert state._check() is None and [page.read() for page in pages] == contents
                digests[state.seq] = state.digest()
        assert core_digest(state.replay()) == state.digest() and not state.verify().findings
        assert {seq: state.at(seq).digest() for seq in digests} == digests
        head = state.digest()
    if stored:
        with mmsb.open(path) as state:
            assert state.digest() == head and [page.read() for page in state.pages()] == contents
            assert [page.epoch for page in state.pages()] == epochs
