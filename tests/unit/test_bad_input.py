"""Bad input: a typed error that says what to do, and nothing changed."""

import os
import threading

import numpy
import pytest

import mmsb
from mmsb import errors


@pytest.fixture
def state():
    with mmsb.open() as state:
        state.create_page(100, name="a", data=b"keep")
        yield state
        assert state.seq == 1 and state.page("a")[0:4] == b"keep" and state._check() is None


@pytest.mark.parametrize("size", [0, -1, 2**36 + 1, 2**64, 2**200])
def test_sizes(state, size):
    for create in (lambda: state.create_page(size), lambda: state.create_pages(2, size)):
        with pytest.raises(mmsb.PageSizeError, match="Use"):
            create()
    with pytest.raises(mmsb.PageSizeError):
        state.page(1).resize(size)


@pytest.mark.parametrize("size", [None, "8", 1.5, True])
def test_sizes_of_other_types(state, size):
    with pytest.raises(TypeError):
        state.create_page(size)


@pytest.mark.parametrize("count", [0, -1, 2**60])
def test_counts(state, count):
    with pytest.raises((mmsb.PageSizeError, MemoryError)):
        state.create_pages(count, 1)


@pytest.mark.parametrize("at", [-1, 100, 101, 2**62, 2**63, 2**64, 2**100])
def test_offsets(state, at):
    page = state.page(1)
    with pytest.raises(mmsb.PageRangeError):
        page.write(b"x", at=at)
    with pytest.raises(mmsb.PageRangeError):
        page.read(at, 1)
    with pytest.raises(mmsb.PageRangeError), state.batch() as batch:
        batch.write(page, b"x", at=at)


def test_writing_past_the_end(state):
    for length in (101, 1000):
        with pytest.raises(mmsb.PageRangeError) as caught:
            state.page(1).write(bytes(length))
        assert caught.value.size == 100 and isinstance(caught.value, IndexError)


@pytest.mark.parametrize("page", [0, -1, 2, 2**40, 2**64, "b", ""])
def test_unknown_pages(state, page):
    with pytest.raises(mmsb.PageNotFoundError) as caught:
        state.page(page)
    assert isinstance(caught.value, KeyError) and "pages()" in str(caught.value)
    with pytest.raises(mmsb.PageNotFoundError):
        state.delete_page(page)


@pytest.mark.parametrize("page", [None, 1.0, b"a", True, object()])
def test_pages_of_other_types(state, page):
    with pytest.raises(TypeError):
        state.page(page)


def test_pages_of_another_state(state):
    with mmsb.open() as other:
        page = other.create_page(8)
        with pytest.raises(mmsb.PageNotFoundError):
            state.page(page)


def test_data(state):
    page = state.page(1)
    for data in ("text", 5, None, ["x"]):
        with pytest.raises(TypeError):
            page.write(data)
    with pytest.raises(mmsb.InvalidDeltaError, match="ascontiguousarray"):
        page.write(numpy.arange(20, dtype="u1")[::2])


def test_duplicate_name(state):
    with pytest.raises(mmsb.DuplicateNameError) as caught:
        state.create_page(8, name="a")
    assert caught.value.page_id == 1


@pytest.mark.parametrize("name", ["", "x" * 70000, "\ud800"])
def test_names(state, name):
    with pytest.raises(ValueError, match=r".+"):
        state.create_page(8, name=name)


@pytest.mark.parametrize("metadata", [{"k": None}, {"k": [1]}, {1: "x"}, {"": "x"}, {"k": "\ud800"}])
def test_metadata(state, metadata):
    with pytest.raises(mmsb.MetadataError):
        state.create_page(8, metadata=metadata)


def test_location_and_durability(state):
    with pytest.raises(mmsb.UnsupportedLocationError):
        state.create_page(8, location="gpu")
    with pytest.raises(ValueError, match="durability"):
        state.batch(durability="strong")
    for durability in ("fast", ""):
        with pytest.raises(ValueError, match="durability"):
            mmsb.open(durability=durability)
    with pytest.raises(ValueError, match="path"):
        mmsb.open(durability="power")
    with pytest.raises(ValueError, match="path"):
        mmsb.open("somewhere", durability="none")


def test_names_of_states(tmp_path):
    for wrong in (7, "", b"world"):
        with pytest.raises(TypeError, match="named"):
            mmsb.open(name=wrong)
    for path in (None, tmp_path / "s"):
        with mmsb.open(path, name="world") as state:
            assert state.name == "world" and "'world'" in repr(state)


def test_foreign_deltas(state):
    for page_id in (0, -1, 1 << 63, 1 << 70):
        with pytest.raises(mmsb.InvalidDeltaError):
            mmsb.Delta.from_ranges(page_id, [(0, 1)], b"x")
        with pytest.raises(mmsb.InvalidDeltaError):
            mmsb.Delta.between(page_id, b"x", b"y")
    with pytest.raises(TypeError):
        mmsb.Delta.from_ranges("a", [(0, 1)], b"x")
    with pytest.raises(mmsb.InvalidDeltaError):
        state.apply(mmsb.Delta.from_ranges(1, [(99, 2)], b"xx"))
    with pytest.raises(mmsb.PageNotFoundError):
        state.apply(mmsb.Delta.from_ranges(7, [(0, 1)], b"x"))
    for ranges, values in [([(0, 2)], b"x"), ([(5, 1), (5, 1)], b"xx"), ([(5, 0)], b""), ([(-1, 1)], b"x"), ([], b"")]:
        with pytest.raises(mmsb.InvalidDeltaError):
            mmsb.Delta.from_ranges(1, ranges, values)


def test_max_bytes_is_a_bound():
    with mmsb.open(max_bytes=1 << 20) as state:
        state.create_pages(100, 4096)
        digest = state.digest()
        for attempt in (
            lambda: state.create_pages(1000, 4096),
            lambda: state.create_page(1 << 20),
            lambda: state.page(1).resize(1 << 21),
        ):
            with pytest.raises(MemoryError) as caught:
                attempt()
            assert isinstance(caught.value, mmsb.ArenaFullError)
        assert state.digest() == digest and state.seq == 1
        state.delete_page(1)
        state.create_page(4096)


def test_disable_cpu(monkeypatch):
    with pytest.raises(ValueError, match="avx3"):
        mmsb.open(disable_cpu="avx2,avx3")
    mmsb.open(disable_cpu="avx2").close()


def test_closed_state():
    state = mmsb.open()
    page = state.create_page(8)
    state.close()
    state.close()
    for use in (page.read, lambda: page.write(b"x"), state.digest, lambda: state.page(1), lambda: state.create_page(8)):
        with pytest.raises(mmsb.StateClosedError):
            use()
    assert "closed" in repr(state)


def test_store_is_a_file_or_a_strange_directory(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "letter.txt").write_text("hello")
    with pytest.raises(mmsb.NotAStoreError):
        mmsb.open(tmp_path / "dir")
    assert (tmp_path / "dir" / "letter.txt").read_text() == "hello"
    with pytest.raises(mmsb.NotAStoreError):
        mmsb.open(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_locked_store(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(8, name="a")
        with pytest.raises(mmsb.StoreLockedError) as caught:
            mmsb.open(tmp_path / "s")
        assert str(os.getpid()) in caught.value.holder and isinstance(caught.value, OSError)
        # Closing another descriptor of the lock file does not let the lock fall off.
        os.close(os.open(tmp_path / "s" / "lock", os.O_RDWR))
        with pytest.raises(mmsb.StoreLockedError):
            mmsb.open(tmp_path / "s")
        with mmsb.open(tmp_path / "s", read_only=True) as reader:
            assert reader.page("a").size == 8
            with pytest.raises(mmsb.ReadOnlyError):
                reader.create_page(8)
            with pytest.raises(mmsb.ReadOnlyError):
                reader.page("a").write(b"x")
    mmsb.open(tmp_path / "s").close()


def test_newer_format(tmp_path):
    mmsb.open(tmp_path / "s").close()
    path = tmp_path / "s" / "store"
    data = bytearray(path.read_bytes())
    data[8] = 9
    data[-4:] = mmsb_crc(bytes(data[:-4])).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(mmsb.FormatVersionError) as caught:
        mmsb.open(tmp_path / "s")
    assert caught.value.version == 9


def mmsb_crc(data):
    """CRC32C."""
    from mmsb._core.log import crc32c

    return crc32c(data)


def test_fork_makes_handles_unusable(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        page = state.create_page(8)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                page.write(b"x")
            except mmsb.ForkedStateError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        page.write(b"y")
        with pytest.raises(mmsb.StoreLockedError):
            mmsb.open(tmp_path / "s")


def test_every_error_is_what_a_programmer_expects():
    for name in mmsb._ERRORS:
        cls = getattr(mmsb, name)
        assert issubclass(cls, mmsb.MMSBError)
        error = cls("what. do.", fact=1)
        assert str(error) == "what. do." and error.fact == 1
    assert issubclass(errors.CommitInDoubtError, OSError) and issubclass(errors.RetentionError, LookupError)


def test_two_threads_on_one_page_are_linearised():
    with mmsb.open() as state:
        page = state.create_page(1 << 18)
        payloads = [bytes([n]) * (1 << 18) for n in (1, 2, 3, 4)]

        def work(payload):
            for _ in range(50):
                page.write(payload)
                page.write(payload[:16], at=500)

        threads = [threading.Thread(target=work, args=(payload,)) for payload in payloads]
        for thread in threads:
            thread.start()
        for _ in range(200):
            assert len(set(page.read(1000, 100000))) <= 1, "a read is never torn"
        for thread in threads:
            thread.join()
        deltas = list(page.history())
        assert [d.epoch for d in deltas] == list(range(1, page.epoch + 1))
        content = bytearray(page.size)
        for delta in deltas:
            delta.apply_to(content)
        assert content == page.read() and state._check() is None


def test_concurrent_updates_lose_nothing():
    with mmsb.open() as state:
        page = state.create_page(8)

        def work():
            for _ in range(200):
                page.update(lambda old: (int.from_bytes(old, "little") + 1).to_bytes(8, "little"))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert int.from_bytes(page.read(), "little") == 800 == page.epoch
