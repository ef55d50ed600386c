"""Importing the first MMSB's files into a State: every byte, every commit, against a literal model."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb.upstream import Report, import_checkpoint, import_log
from tests.unit.test_upstream import GOLDEN, PAGES, TIME_NS, checkpoint, frame, log_header, simple_frames


@pytest.fixture
def state():
    with mmsb.open() as state:
        yield state


def test_golden_log(state):
    report = import_log(GOLDEN / "test.tlog", state)
    assert (report.frames, report.pages, report.fault_count) == (1, 1, 0)
    page = state.page("page-42")
    assert (page.read(), page.epoch, dict(page.metadata), state.seq) == (b"\x2a", 1, {"upstream_page_id": 42}, 1)


def test_golden_checkpoint(state):
    import_checkpoint(GOLDEN / "test.chk", state)
    page = state.page("page-42")
    assert page.read() == b"\x2a" + b"\x63" * 4095 and page.epoch == 0
    assert dict(page.metadata) == {
        "test": b"meta",
        "upstream_page_id": 42,
        "upstream_epoch": 1,
        "upstream_location": "cpu",
    }


def test_checkpoint_of_several_pages(state, tmp_path):
    path = tmp_path / "a.chk"
    path.write_bytes(checkpoint(PAGES, 2))
    seen = []
    report = import_checkpoint(path, state, progress=lambda done, total: seen.append((done, total)))
    assert len(state) == report.pages == 3 and len(seen) == 3
    for page_id, epoch, _, pairs, data in PAGES:
        page = state.page(f"page-{page_id}")
        assert page.read() == data and page.metadata["upstream_epoch"] == epoch
        assert all(page.metadata[key] == value for key, value in pairs if key)


def test_damaged_checkpoint_imports_nothing(state, tmp_path):
    path = tmp_path / "a.chk"
    path.write_bytes(checkpoint(PAGES)[:-1])
    with pytest.raises(mmsb.CorruptCheckpointError):
        import_checkpoint(path, state)
    assert state.seq == 0 and len(state) == 0


def test_commits_carry_source_and_intent(state, tmp_path):
    path = tmp_path / "a.tlog"
    path.write_bytes(
        log_header(2)
        + frame(5, 9, 1, b"\1\0", b"a", 1, source=b"agent", intent='{"goal": "x"}', version=2)
        + frame(6, 9, 2, b"\0\1", b"zb", 0, time_ns=0, source=b"", version=2)
    )
    import_log(path, state)
    first, second = (state._deltas_of(seq)[0] for seq in (1, 2))
    assert first.source == "agent" and second.source is None
    assert first.intent == {
        "upstream_delta_id": 5,
        "upstream_epoch": 1,
        "upstream_time_ns": TIME_NS,
        "upstream_intent": '{"goal": "x"}',
    }
    assert second.intent == {"upstream_delta_id": 6, "upstream_epoch": 2}
    assert state.page("page-9").read() == b"ab"


def test_a_page_that_is_there_already(state):
    state.create_page(8, name="page-42")
    with pytest.raises(mmsb.DuplicateNameError):
        import_log(GOLDEN / "test.tlog", state)
    assert state.seq == 1


def test_import_up_to_the_damage(state, tmp_path):
    path = tmp_path / "a.tlog"
    path.write_bytes(log_header() + b"".join(simple_frames(5))[:-3])
    report = Report()
    assert import_log(path, state, report) is report
    assert state.seq == report.frames == 4 and report.fault_count == 1


@st.composite
def histories(draw):
    """Frames of a few pages as (page id, mask, payload, sparse)."""
    items = []
    for _ in range(draw(st.integers(1, 12))):
        mask = bytes(draw(st.lists(st.integers(0, 1), min_size=1, max_size=24)))
        sparse = draw(st.integers(0, 1))
        size = sum(mask) if sparse else len(mask)
        items.append(
            (draw(st.sampled_from([1, 2, 2**64 - 1])), mask, draw(st.binary(min_size=size, max_size=size)), sparse)
        )
    return items


@given(histories(), st.sampled_from([1, 2]))
def test_bytes_equal_those_of_a_literal_model(tmp_path_factory, items, version):
    path = tmp_path_factory.mktemp("log") / "a.tlog"
    data, model = log_header(version), {}
    for number, (page_id, mask, payload, sparse) in enumerate(items, 1):
        data += frame(number, page_id, number, mask, payload, sparse, version=version)
        page = model.setdefault(page_id, bytearray(max(len(item[1]) for item in items if item[0] == page_id)))
        values = iter(payload)
        for offset, flag in enumerate(mask):
            value = next(values) if flag or not sparse else None
            if flag:
                page[offset] = value
    path.write_bytes(data)
    with mmsb.open() as state:
        import_log(path, state)
        assert {page.name: page.read() for page in state.pages()} == {
            f"page-{page_id}": bytes(content) for page_id, content in model.items()
        }
        assert state.seq == len(items)


def test_length_of_a_hostile_mask_never_becomes_a_page(state, tmp_path):
    path = tmp_path / "a.tlog"
    path.write_bytes(log_header() + struct.pack("<QQII", 1, 1, 1, 2**32 - 1) + bytes(100))
    import_log(path, state)
    assert len(state) == 0 and state.seq == 0
