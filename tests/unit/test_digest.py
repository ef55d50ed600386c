"""The digest: what it depends on, that it is incremental, and its bytes."""

import struct

import blake3
import pytest

import mmsb
from mmsb import digest
from mmsb.testing.histories import random_history


def literal(pages, next_page_id):
    """The digest straight from docs/formats/digest.md; pages are (id, size, epoch, kind, name, metadata, content)."""
    buckets = {}
    for page_id, size, epoch, kind, name, notes, content in sorted(pages, key=lambda page: page[0]):
        text = (name or "").encode()
        head = struct.pack("<QQQBB", page_id, size, epoch, kind, (name is not None) + 2 * (size > 4096))
        head += struct.pack("<HII", 0, len(text), len(notes)) + text + notes
        body = content if size <= 4096 else blake3.blake3(content).digest()
        buckets.setdefault(page_id // 64, []).append(head + body)
    root = b"mmsb state 1\0\0\0\0" + struct.pack("<QQ", next_page_id, len(buckets))
    for number, records in sorted(buckets.items()):
        leaf = b"mmsb bucket 1\0\0\0" + struct.pack("<QQ", number, len(records)) + b"".join(records)
        root += struct.pack("<Q", number) + blake3.blake3(leaf).digest()
    return blake3.blake3(root + bytes(32)).digest()


def test_golden_value_of_a_small_state():
    with mmsb.open() as state:
        assert state.digest().hex() == "a528fe6940a6e6c0e3bbc7bb9d7c408f403dea3d9906e9e85efe6d4edc8ab5af"
        state.create_page(5, name="a", data=b"hello", metadata={"k": 1})
        state.create_page(5000, data=b"\1\2\3")
        state.create_pages(100, 16)
        state.page("a").write(b"H")
        state.page(7).delete()
        assert state.digest().hex() == "313f180aa56c7394b9260fceb8799594b17c82b31f4067b7d93de69de82e6eff"
        expected = [(1, 5, 1, 0, "a", b"\1\1k\3\1\1", b"Hello"), (2, 5000, 0, 0, None, b"", b"\1\2\3" + bytes(4997))]
        expected += [(number, 16, 0, 0, None, b"", bytes(16)) for number in range(3, 103) if number != 7]
        assert state.digest() == literal(expected, 103)


def test_every_part_of_the_state_is_in_the_digest():
    def one(change, data=b"abc"):
        with mmsb.open() as state:
            page = state.create_page(3, name="a", data=data)
            change(state, page)
            return state.digest()

    def reset(state, page):
        page.write(b"x")
        page.write(b"a")

    changes = [
        lambda state, page: None,
        lambda state, page: page.write(b"x"),
        reset,
        lambda state, page: page.rename("b"),
        lambda state, page: page.rename(None),
        lambda state, page: state.set_metadata(page, {"k": b""}),
        lambda state, page: page.resize(4),
        lambda state, page: page.delete(),
        lambda state, page: state.create_page(1),
        lambda state, page: state.create_page(1).delete(),
    ]
    digests = [one(change) for change in changes]
    assert len(set(digests)) == len(changes)
    assert one(lambda state, page: state.set_metadata(page, {})) == digests[0]
    assert one(lambda state, page: state.batch(label="x", source="s").commit()) == digests[0]


def test_live_and_from_scratch_agree_after_every_commit(rng):
    with mmsb.open(segment_bytes=4096) as state:
        history = random_history(state, rng, 60)
        assert digest.core_digest(state) == history.digests[-1]
        for seq in range(0, 61, 7):
            assert digest.core_digest(state.replay(seq)) == history.digests[seq] == state.at(seq).digest()


def test_only_buckets_that_changed_are_hashed_again(monkeypatch):
    with mmsb.open() as state:
        state.create_pages(640, 32)
        state.create_page(10_000, name="long")
        hashed = []
        leaf = digest.Tree.leaf
        monkeypatch.setattr(
            digest.Tree, "leaf", lambda tree, owner, n, ids: hashed.append(n) or leaf(tree, owner, n, ids)
        )
        state.digest()
        assert hashed == list(range(11))
        hashed.clear()
        state.digest()
        with state.batch(label="nothing"):
            pass
        state.digest()
        assert hashed == []
        state.page(70).write(b"x")
        state.page(200).rename("x")
        state.page(201).delete()
        assert state.digest() == digest.core_digest(state)
        assert sorted(hashed[:2]) == [1, 3]


def test_a_digest_after_the_log_was_dropped(rng):
    with mmsb.open(segment_bytes=4096, history=8192) as state:
        page = state.create_page(1000)
        state.digest()
        for _ in range(60):
            page.write(rng.randbytes(500))
        assert state.first_seq > 1
        assert state.digest() == digest.core_digest(state)


def test_same_commands_same_digest(tmp_path):
    def run(state):
        with state:
            page = state.create_page(100, name="a")
            page.write(b"hello", at=5)
            page.resize(5000)
            return state.digest()

    digests = {run(mmsb.open()), run(mmsb.open(segment_bytes=4096)), run(mmsb.open(tmp_path / "a"))}
    assert len(digests) == 1
    with mmsb.open(tmp_path / "a") as state:
        assert {state.digest()} == digests


@pytest.mark.parametrize("size", [4095, 4096, 4097])
def test_the_bound_between_inline_and_hashed_contents(size):
    with mmsb.open() as state:
        state.create_page(size, data=b"\7" * size)
        assert state.digest() == literal([(1, size, 0, 0, None, b"", b"\7" * size)], 2)
