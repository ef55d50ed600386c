"""Checkpoints: the file, its chains, and what a damaged one costs."""

import os
import random
import struct
import threading

import blake3
import pytest
import zstandard

import mmsb
from mmsb import checkpoint, checkpoints
from mmsb._core.files import Files
from mmsb._core.log import crc32c
from mmsb.checkpoint import BLOCK, CHAIN_MOST, HEAD_BYTES, decode_image, encode_image, image_at, take
from mmsb.compression import compress_block, decompress_block
from mmsb.store import Store
from mmsb.testing import EventLog
from mmsb.testing.model import picture_of


def paths(state):
    return [path for _, path in state._store.checkpoint_paths()]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def seal(data):
    """The file with the checksums of its header and of the whole made right again."""
    data = data[: HEAD_BYTES - 4] + crc32c(bytes(data[: HEAD_BYTES - 4])).to_bytes(4, "little") + data[HEAD_BYTES:-32]
    return bytes(data) + blake3.blake3(bytes(data)).digest()


@pytest.fixture
def state(tmp_path):
    with mmsb.open(tmp_path / "s", checkpoint_bytes=None) as state:
        for n in range(40):
            state.create_page(1000 + n, name=f"page {n}" if n % 3 else None, data=random.Random(n).randbytes(900))
        state.page(1).metadata = {"k": 1, "w": b"x"}
        state.delete_page(7)
        state.page(9).resize(5000)
        yield state


def test_everything_comes_back(tmp_path, state):
    state.checkpoint()
    state.page(3).write(b"behind it")
    digest, picture, position = state.digest(), picture_of(state), (state.seq, state.branch, state.next_page_id)
    state.close()
    with mmsb.open(tmp_path / "s") as state:
        assert state._checkpoints.last.seq == state.seq - 1
        assert (state.digest(), picture_of(state)) == (digest, picture)
        assert (state.seq, state.branch, state.next_page_id) == position
        assert state.create_page(1).page_id == 41 and "page 7" in state and 7 not in state


def test_equal_states_have_equal_files(state):
    first = encode_image(*take(state))
    assert encode_image(*take(state)) == first
    past, _ = image_at(state, state.seq, state._log.active), None
    assert encode_image(past, past.pages) == first


def test_a_chain_is_bounded(state):
    parents = []
    for n in range(2 * CHAIN_MOST + 2):
        state.page(1 + n % 6).write(bytes([n + 1]) * 5, at=n)
        state.checkpoint()
        parents.append(state._checkpoints.head(state.seq).parent_seq)
    runs = "".join("f" if parent == 0 else "i" for parent in parents).split("f")
    assert max(map(len, runs)) == CHAIN_MOST - 1
    assert state.verify().findings == []


def test_a_chain_goes_on_after_reopening(tmp_path, state):
    state.checkpoint()
    state.close()
    lengths = []
    for n in range(CHAIN_MOST + 1):
        with mmsb.open(tmp_path / "s") as state:
            state.page(1).write(bytes([n + 1]) * 3)
            state.checkpoint()
            lengths.append(state._checkpoints.chain)
    assert lengths == [*range(1, CHAIN_MOST), 0, 1]


def test_an_increment_that_changed_most_is_full(state):
    state.checkpoint()
    for page in state.pages():
        page.write(os.urandom(page.size))
    state.checkpoint()
    assert state._checkpoints.last.parent_seq == 0


def test_only_what_changed_is_in_an_increment(state):
    state.checkpoint()
    state.page(2).write(b"changed")
    state.page("page 4").rename("renamed")
    state.delete_page(20)
    new = state.create_page(10, name="new")
    state.checkpoint()
    image = decode_image(read(paths(state)[-1]), "it")
    assert sorted(image.pages) == [2, new.page_id] and image.names[5] == "renamed"
    whole = state._checkpoints.load(state.seq)
    assert sorted(whole.pages) == [page.page_id for page in state.pages()]


def test_no_second_one_at_the_same_seq(state):
    state.checkpoint()
    before = os.stat(paths(state)[0])
    assert state.checkpoint() == state.seq and os.stat(paths(state)[0]) == before


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_damaged_link_of_a_chain_costs_time_only(tmp_path, state, which):
    for n in range(3):
        state.page(1).write(bytes([n + 1]) * 5)
        state.checkpoint()
    digest, files = state.digest(), paths(state)
    middle = state._checkpoints.head(state.seq).parent_seq
    past = state.at(middle).digest()
    state.close()
    data = bytearray(read(files[which]))
    data[len(data) // 2] ^= 8
    with open(files[which], "wb") as file:
        file.write(data)
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digest and state.at(middle).digest() == past
        assert len(state._checkpoints.skipped) == 3 - which
        assert {finding.severity for finding in state.verify().findings} == {"warning"}
        state.page(1).write(b"on")
        state.checkpoint()
        assert state._checkpoints.load(state.seq).digest == state.digest()


def test_every_flipped_bit_is_noticed(tmp_path, state):
    data = bytearray(encode_image(*take(state)))
    dice = random.Random(1)
    for at in range(0, len(data), 7):
        bit = 1 << dice.randrange(8)
        data[at] ^= bit
        with pytest.raises((mmsb.CorruptCheckpointError, mmsb.FormatVersionError)):
            decode_image(bytes(data), "it")
        data[at] ^= bit
    decode_image(bytes(data), "it")


def test_every_cut_is_noticed(state):
    data = encode_image(*take(state))
    for length in [*range(0, len(data), 97), len(data) - 1]:
        with pytest.raises(mmsb.CorruptCheckpointError):
            decode_image(data[:length], "it")
    with pytest.raises(mmsb.CorruptCheckpointError):
        decode_image(data + b"\0", "it")


def test_damage_with_right_checksums_is_a_typed_error(state):
    """What a hostile or broken writer might leave: refused, or read as something, never a crash."""
    data = bytearray(encode_image(*take(state)))
    dice = random.Random(2)
    for _ in range(3000):
        copy = bytearray(data)
        for _ in range(dice.randrange(1, 4)):
            copy[dice.randrange(len(copy) - 32)] = dice.randrange(256)
        try:
            decode_image(seal(copy), "it")
        except (mmsb.CorruptCheckpointError, mmsb.FormatVersionError):
            pass


def test_a_newer_format_is_refused(tmp_path, state):
    state.checkpoint()
    (path,) = paths(state)
    state.close()
    data = bytearray(read(path))
    data[8] = 9
    with open(path, "wb") as file:
        file.write(seal(data))
    with pytest.raises(mmsb.FormatVersionError) as caught:
        mmsb.open(tmp_path / "s")
    assert (caught.value.version, caught.value.supported) == (9, 1)


def test_sizes_are_checked_before_memory_is_taken():
    """zstandard takes a frame that claims 2**40 bytes at its word; we do not."""
    small = compress_block(bytes(1000))
    assert decompress_block(small, 1000) == bytes(1000)
    bomb = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40) + small[-6:]
    assert zstandard.frame_content_size(bomb) == 1 << 40
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    for frame in (bomb, unsized, small[:-1], small + b"x", b"", b"garbage"):
        with pytest.raises(ValueError):
            decompress_block(frame)
    with pytest.raises(ValueError):
        decompress_block(small, 999)


def test_a_block_that_states_another_size_is_refused(state):
    data = bytearray(encode_image(*take(state)))
    at = HEAD_BYTES + struct.unpack_from("<Q", data, 160)[0]
    raw, stored, crc, pages = BLOCK.unpack_from(data, at)
    for change in ((1 << 50, stored, crc, pages), (raw - 1, stored, crc, pages), (raw, stored, crc, pages + 1)):
        copy = bytearray(data)
        BLOCK.pack_into(copy, at, *change)
        with pytest.raises(mmsb.CorruptCheckpointError):
            decode_image(seal(copy), "it")


def test_a_checkpoint_of_another_store_is_skipped(tmp_path, state):
    state.checkpoint()
    (path,) = paths(state)
    with mmsb.open(tmp_path / "t") as other:
        while other.seq < state.seq:
            other.create_page(1)
        other.checkpoint()
        foreign = read(paths(other)[0])
    digest = state.digest()
    state.close()
    with open(path, "wb") as file:
        file.write(foreign)
    with mmsb.open(tmp_path / "s") as state:
        assert state.digest() == digest and len(state._checkpoints.skipped) == 1


def test_one_is_taken_by_itself_where_it_pays(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        page = state.create_page(4096)
        page.write(b"little")
    with mmsb.open(tmp_path / "s") as state:
        assert paths(state) == []
        for n in range(400):
            page = state.page(1)
            page.write(random.Random(n).randbytes(4096))
        assert not state._checkpoints.due(state)
    with mmsb.open(tmp_path / "s", checkpoint_bytes=1 << 20) as state:
        assert len(paths(state)) == 1 and state._checkpoints.last.seq == state.seq
        for n in range(400):
            state.page(1).write(random.Random(n).randbytes(4096))
        assert state._checkpoints.due(state)


def test_a_failed_one_is_reported_and_costs_nothing(tmp_path):
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files, durability="process") as state:
        page = state.create_page(100)
        state.sync()
        files.arm("rename", 1, "fail", 28)
        with pytest.raises(OSError):
            state.checkpoint()
        page.write(b"goes on")
        state.checkpoint()
        assert state.verify().findings == []


def test_pages_of_more_than_a_block_come_back(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        for n in range(3):
            state.create_page(700_000, data=random.Random(n).randbytes(700_000))
        image, pages = take(state)
        data = encode_image(image, pages)
        assert struct.unpack_from("<Q", data, 168) == (2,)
        assert {key: bytes(page[3]) for key, page in decode_image(data, "c").pages.items()} == {
            key: page[3] for key, page in pages.items()
        }


COUNT_AT = 72  # of the pages, in the header


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("number of pages", lambda image, pages: pages.pop(1)),
        ("ranges of live pages", lambda image, pages: setattr(image, "live", [(1, 7), (7, 41)])),
        ("ranges of live pages", lambda image, pages: setattr(image, "live", [(0, 7), (8, 41)])),
        ("ranges of live pages", lambda image, pages: setattr(image, "live", [(1, 7), (8, 8), (9, 41)])),
        ("ranges of live pages", lambda image, pages: setattr(image, "live", [(1, 7), (8, 42)])),
        ("number of live pages", lambda image, pages: setattr(image, "live", [(1, 7), (9, 41)])),
        ("number of live pages", lambda image, pages: image.live.append((image.next_page_id + 1, 90)) or widen(image)),
        ("a page is wrong", lambda image, pages: pages.update({1: (0, 0, 0, b"")})),
        ("a page is wrong", lambda image, pages: pages.update({1: (1, 0, 256, b"x")})),
        ("two pages have one name", lambda image, pages: image.names.update({1: "one", 2: "one"})),
    ],
)
def test_contents_that_contradict_each_other(state, words, change):
    image, pages = take(state)
    assert decode_image(encode_image(image, pages), "c").seq == image.seq
    change(image, pages)
    data = bytearray(encode_image(image, pages))
    if words == "number of pages":
        data[COUNT_AT : COUNT_AT + 8] = (len(pages) + 1).to_bytes(8, "little")
    with pytest.raises(mmsb.CorruptCheckpointError, match=words):
        decode_image(seal(data), "c")


def widen(image):
    image.next_page_id = 90


@pytest.mark.parametrize(("words", "repeat", "fewer"), [("there twice", 2, 0), ("goes on after", 1, 1)])
def test_blocks_that_do_not_hold_what_they_say(state, monkeypatch, words, repeat, fewer):
    image, pages = take(state)
    [(count, raw)] = checkpoint._blocks(pages)
    monkeypatch.setattr(checkpoint, "_blocks", lambda pages: iter([(count * repeat - fewer, raw * repeat)]))
    with pytest.raises(mmsb.CorruptCheckpointError, match=words):
        decode_image(encode_image(image, pages), "c")


SEQ_AT, PARENT_AT, TIME_AT, BRANCH_AT, FLAGS_AT = 32, 40, 48, 56, 176  # in the header
SEQ_MOST = (1 << 63) - 1


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ({PARENT_AT: 1 << 40}, False),
        ({PARENT_AT: 7, SEQ_AT: 7}, False),
        ({PARENT_AT: 6, SEQ_AT: 7}, True),
        ({PARENT_AT: 1, SEQ_AT: 0}, False),
        ({PARENT_AT: 0, SEQ_AT: 0}, True),
        ({FLAGS_AT: 4}, False),
        ({FLAGS_AT: 128}, False),
        ({FLAGS_AT: checkpoint.BASE | checkpoint.ANCHORED}, True),
        ({SEQ_AT: SEQ_MOST}, True),
        ({SEQ_AT: SEQ_MOST + 1}, False),
        ({BRANCH_AT: SEQ_MOST}, True),
        ({BRANCH_AT: SEQ_MOST + 1}, False),
    ],
)
def test_headers_that_contradict_themselves(state, change, right):
    data = bytearray(encode_image(*take(state)))
    for at, number in change.items():
        size = 4 if at == FLAGS_AT else 8
        data[at : at + size] = number.to_bytes(size, "little")
    if right:
        checkpoint.decode_head(seal(data), "c")
        return
    with pytest.raises(mmsb.CorruptCheckpointError, match="contradicts itself"):
        decode_image(seal(data), "c")


def test_each_checksum_is_looked_at(state):
    """Of a writer that got one of them wrong, and the others right."""
    image, pages = take(state)
    data = encode_image(image, pages)
    header = bytearray(data)
    header[TIME_AT] ^= 1
    with pytest.raises(mmsb.CorruptCheckpointError, match="the header's checksum does not match"):
        decode_image(bytes(header[:-32]) + blake3.blake3(bytes(header[:-32])).digest(), "c")
    block = bytearray(data)
    at = HEAD_BYTES + struct.unpack_from("<Q", data, 160)[0]
    raw, stored, crc, count = BLOCK.unpack_from(data, at)
    BLOCK.pack_into(block, at, raw, stored, crc ^ 1, count)
    with pytest.raises(mmsb.CorruptCheckpointError, match="a block's checksum does not match"):
        decode_image(seal(block), "c")
    with pytest.raises(mmsb.CorruptCheckpointError, match="its hash does not match"):
        decode_image(data[:-1] + bytes([data[-1] ^ 1]), "c")


def test_the_next_page_id_has_a_bound(state):
    image, pages = take(state)
    image.next_page_id = checkpoint.PAGE_ID_MOST + 1
    assert decode_image(encode_image(image, pages), "c").next_page_id == image.next_page_id
    image.next_page_id += 1
    with pytest.raises(mmsb.CorruptCheckpointError, match="beyond all ids"):
        decode_image(encode_image(image, pages), "c")


def test_a_block_ends_where_it_is_full():
    exact = checkpoint.BLOCK_BYTES - 6  # id, size (3 bytes), epoch, kind
    for size, counts in ((exact - 1, [2]), (exact, [1, 1]), (exact + 1, [1, 1])):
        pages = {1: (size, 0, 0, bytes(size)), 2: (1, 0, 0, b"x")}
        assert [count for count, _ in checkpoint._blocks(pages)] == counts


@pytest.mark.parametrize(
    ("raw", "stored", "count", "words"),
    [
        (1000, 50, 0, "a block contradicts itself"),  # no pages
        (1000, 1000 + 7 + 64, 1, "its length is not what its blocks say"),  # as much as there can be
        (1000, 1000 + 7 + 65, 1, "a block contradicts itself"),
        (128, 128 + 1 + 64, 1, "its length is not what its blocks say"),
        (128, 128 + 1 + 65, 1, "a block contradicts itself"),
    ],
)
def test_blocks_whose_sizes_cannot_be(tmp_path, state, raw, stored, count, words):
    data = bytearray(encode_image(*take(state)))
    at = HEAD_BYTES + struct.unpack_from("<Q", data, 160)[0]
    BLOCK.pack_into(data, at, raw, stored, 0, count)
    (tmp_path / "c").write_bytes(seal(data))
    with pytest.raises(mmsb.CorruptCheckpointError, match=words):
        checkpoints.read_file(Files(), os.fspath(tmp_path / "c"))


def test_a_checkpoint_that_is_too_large_is_not_called_damaged(tmp_path, state):
    state.checkpoint()
    state.close()
    with pytest.raises(mmsb.ArenaFullError):
        mmsb.open(tmp_path / "s", max_bytes=4096)


def test_where_the_log_goes_on(tmp_path, state):
    """Behind what a checkpoint was taken of. A reader does not know where its writer's log ends: at the beginning."""
    image, _ = take(state)
    assert (image.segment, image.offset) == (state._log.active.number, state._log.active.tail)
    with mmsb.open(tmp_path / "s", read_only=True) as reader:
        image, _ = take(reader)
        assert (image.segment, image.offset) == (1, checkpoint.HEADER_BYTES)


def test_the_bytes_since_the_last_one(state):
    everything = state._checkpoints.position(state)
    state.checkpoint()
    assert state._checkpoints.position(state) == 0 < everything
    state.page(1).write(bytes(range(100)))
    assert 100 < state._checkpoints.position(state) < 300


def test_closing_takes_one_where_replay_would_take_long(state):
    pays = state._checkpoints.pays
    assert not pays(state)
    for n in range(10_000 - state.seq):
        state.page(1).write(bytes([n % 255 + 1]), at=n % 50)
    assert pays(state) and state.seq == 10_000
    state.checkpoint()
    assert not pays(state)
    state.page(1).resize(3 << 20)
    state.page(1).write(random.Random(1).randbytes(1 << 20))
    assert pays(state)


def test_each_one_is_announced(state):
    log = EventLog(state, "checkpoint_created")
    seqs = [state.checkpoint()]
    state.page(1).write(b"more")
    seqs.append(state.checkpoint())
    assert state.checkpoint() == seqs[1]  # it is there already
    assert [event.seq for event in log.events()] == seqs


@pytest.mark.parametrize("forked", [False, True])
def test_a_history_that_lost_its_beginning_is_not_begun_anew(tmp_path, state, forked):
    store = tmp_path / ("t" if forked else "s")
    if forked:
        state.fork(path=store).close()
    else:
        state.compact(before=state.seq)
    state.close()
    for path in (store / "log").iterdir():
        path.unlink()
    for path in (store / "checkpoints").iterdir():
        if forked:
            path.unlink()
        else:
            path.write_bytes(b"damaged")
    kept = checkpoints.Checkpoints(Store(Files(), os.fspath(store), lock=False), Files(), None)
    words = "so is the checkpoint that stood for it" if forked else "it is no checkpoint, or cut"
    with pytest.raises(mmsb.CorruptCheckpointError, match=words):
        kept.base(read_only=False)


def test_an_increment_alone_is_no_state(tmp_path, state):
    state.checkpoint()
    state.page(3).write(b"x")
    state.checkpoint()
    newest = paths(state)[-1]
    state.close()
    with pytest.raises(mmsb.CorruptCheckpointError, match="needs the store"):
        mmsb.open(newest)


def test_an_increment_whose_parent_lacks_a_page_is_refused(state):
    state.checkpoint()
    (first,) = paths(state)
    state.page(3).write(b"x")
    state.checkpoint()
    image = decode_image(read(first), first)
    image.live = [(1, 7), (8, 40)]
    del image.pages[40]
    with open(first, "wb") as file:
        file.write(encode_image(image, image.pages))
    state._checkpoints.images.clear()
    with pytest.raises(mmsb.CorruptCheckpointError, match="page 40"):
        state._checkpoints.load(state.seq)


def test_a_checkpoint_after_the_asked_seq_is_passed_over(tmp_path, state):
    state.checkpoint()
    middle = state.seq
    state.page(3).write(b"x")
    state.checkpoint()
    assert state._checkpoints.before(middle).seq == middle
    assert state._checkpoints.before(middle + 1).seq == middle + 1
    assert state._checkpoints.before(middle - 1) is None


def test_a_link_to_a_checkpoint_is_followed(tmp_path):
    with mmsb.open() as state:
        state.create_page(8, name="a")
        state.stop(checkpoint_path=tmp_path / "one.ckpt")
    (tmp_path / "link").symlink_to("one.ckpt")
    assert mmsb.open(tmp_path / "link").page("a").size == 8
    (tmp_path / "other").symlink_to("/etc/passwd")
    with pytest.raises(mmsb.NotAStoreError):
        mmsb.open(tmp_path / "other")


def test_a_chain_is_whole_although_another_thread_reads_its_middle_meanwhile(tmp_path, monkeypatch):
    with mmsb.open(tmp_path / "store", checkpoint_bytes=None) as state:
        state.create_pages(40, 100)
        oldest = state.checkpoint()
        state.page(1).write(b"p")
        parent = state.checkpoint()
        state.page(2).write(b"c")
        newest = state.checkpoint()
        checkpoints = state._checkpoints
        assert [checkpoints.head(seq).parent_seq for seq in (parent, newest)] == [oldest, parent]
        read, begun = checkpoints.read, []

        def reading(seq):
            image = read(seq)
            if threading.current_thread() is threading.main_thread() and seq != oldest:
                begun.append(seq)
                other = threading.Thread(target=checkpoints.load, args=(oldest if seq == newest else parent,))
                other.start()
                other.join()
            return image

        monkeypatch.setattr(checkpoints, "read", reading)
        checkpoints.images.clear()
        assert len(checkpoints.load(newest).pages) == 40
        assert begun == [newest, parent]
