"""Reads are never torn: pages that say whether they are whole, while their owner changes them as fast as it can."""

import select

import pytest

import mmsb

# Every page is made of one number, its size tells it too, and pages of a set hold the same one.
OWNER = """
kind, seconds = sys.argv[1], float(sys.argv[2])
state = mmsb.open(name="torn", segment_bytes=1 << 20, history=8 << 20)
pages = [state.create_page(4096, name=f"p{n}") for n in range(8)]
small = state.create_page(64, name="small")
if kind == "wave":
    from mmsb.links import passthrough
    state.depend("p1", on="p0", link=passthrough())
    state.depend("p2", on="p1", link=passthrough())
state.serve()
tell("ready")
sys.stdin.readline()
end = time.monotonic() + seconds
n = 0
while time.monotonic() < end or n < 11:
    n += 1
    number = n.to_bytes(8, "little")
    if kind == "write":
        pages[0].write(number * 512)
    elif kind == "set":
        with state.batch() as b:
            for page in pages:
                b.write(page, number * 512)
    elif kind == "resize":
        size = 8 * (1 + n * 7919 % 3000)
        with state.batch() as b:
            b.resize(pages[0], size)
            b.write(pages[0], number * (size // 8))
    elif kind == "recreate":
        with state.batch() as b:
            b.delete_page("small")
            b.create_page(8 * (1 + n % 600), name="small", data=number * (1 + n % 600))
            # Somebody else gets memory of the size just freed, and fills it with something else.
            b.create_page(8 * (1 + (n - 1) % 600), data=b"\\xee" * (8 * (1 + (n - 1) % 600)))
        if n % 100 == 0:
            with state.batch() as b:
                for page in state.pages():
                    if page.name is None:
                        b.delete_page(page)
    elif kind == "large":
        size = (1 << 20) + 8 * (n % 100000)
        with state.batch() as b:
            b.resize(pages[1], size)
            b.write(pages[1], number * (size // 8))
    elif kind == "wave":
        pages[0].write(number * 512)
tell("done", n, state.stats()["sharing"])
sys.stdin.readline()
state.close()
"""


def whole(data):
    """Whether a page holds one number throughout."""
    return data == data[:8] * (len(data) // 8)


def is_done(owner):
    """Whether the owner has said that it will write no more."""
    return bool(select.select([owner.popen.stdout], [], [], 0)[0])


def read_until_done(owner, view, look):
    """Calls look() until the owner is done. How often."""
    count = 0
    while not is_done(owner):
        for _ in range(20):
            look()
            count += 1
    return count


@pytest.mark.parametrize("kind, page", [("write", "p0"), ("resize", "p0"), ("large", "p1")])
def test_page_is_whole(process, kind, page):
    owner = process(OWNER, kind, 1.0)
    assert owner.hear() == "ready"
    with mmsb.attach("torn") as view:
        owner.say()
        handle = view.page(page)
        last = [0]

        buffer = bytearray(2048)

        def look():
            if last[0] % 2 or kind == "resize":
                data = handle.read()
            else:
                handle.read_into(buffer, 1024)
                data = bytes(buffer)
            assert whole(data), f"{kind}: a torn read of {len(data)} bytes"
            number = int.from_bytes(data[:8], "little")
            assert number >= last[0], "a read went back"
            last[0] = number

        count = read_until_done(owner, view, look)
        _, n, sharing = owner.hear()
        assert n > 10 and count > 10 and sharing["drops"] == 0
        assert int.from_bytes(handle.read(0, 8), "little") == n


def test_without_redoing_reads_are_torn(process):
    """The negative control: the test above can fail."""
    owner = process(OWNER, "large", 3.0)
    owner.hear()
    with mmsb.attach("torn") as view:
        owner.say()
        view._reader.never_redo = True
        handle = view.page("p1")
        torn = []
        read_until_done(owner, view, lambda: torn.append(not whole(handle.read())))
        assert any(torn)
        view._reader.never_redo = False
        assert whole(handle.read())


def test_snapshots_show_one_commit(process):
    owner = process(OWNER, "set", 1.0)
    owner.hear()
    with mmsb.attach("torn") as view:
        owner.say()
        names = [f"p{n}" for n in range(8)]
        last = [0]

        def look():
            snapshot = view.snapshot(names)
            assert len(set(snapshot.values())) == 1, "a snapshot mixes commits"
            assert whole(next(iter(snapshot.values())))
            assert snapshot.seq >= last[0]
            last[0] = snapshot.seq
            number = int.from_bytes(next(iter(snapshot.values()))[:8], "little")
            assert snapshot.seq == 9 + number, "a snapshot's seq is not that of its bytes"

        assert read_until_done(owner, view, look) > 20


def test_waves(process):
    """What is computed is whole as well, and never newer than what it is computed from."""
    owner = process(OWNER, "wave", 1.0)
    owner.hear()
    with mmsb.attach("torn") as view:
        owner.say()
        view.stale_reads = True

        def look():
            contents = view.snapshot(["p0", "p1", "p2"])
            assert all(map(whole, contents.values()))
            numbers = [int.from_bytes(content[:8], "little") for content in contents.values()]
            assert numbers[1] == numbers[2] and numbers[0] - numbers[1] in (0, 1), "half of a wave"
            assert whole(view.page("p2").read())

        assert read_until_done(owner, view, look) > 20


def test_pages_come_and_go(process):
    owner = process(OWNER, "recreate", 2.5)
    owner.hear()
    found = missing = 0
    with mmsb.attach("torn") as view:
        owner.say()

        def look():
            nonlocal found, missing
            try:
                data = view.page("small").read()
            except mmsb.PageNotFoundError:
                missing += 1  # its successor has another id
                return
            assert whole(data), "another page's bytes"
            assert b"\xee\xee" not in data[:8]
            found += 1

        read_until_done(owner, view, look)
        assert found > 20
        _, n, _ = owner.hear()
        assert len(view.page("small")) == 8 * (1 + n % 600)
        assert len(view.pages()) == len(view) == len(view.snapshot())


def test_followed_commits_are_complete(process):
    """Every commit in its turn, or the news of how many went while nobody came for them."""
    owner = process(OWNER, "write", 1.0)
    owner.hear()
    with mmsb.attach("torn") as view:
        owner.say()
        follower, seq = view.follow(since=1, timeout=0.1), 0
        while True:
            over = is_done(owner)  # asked before, so that everything is there to be followed
            try:
                commit = next(follower, None)
            except mmsb.RetentionError as behind:
                assert behind.seq == seq + 1 <= behind.first_seq
                seq = behind.first_seq
                follower = view.follow(since=seq + 1, timeout=0.1)
                continue
            if commit is not None:
                seq += 1
                assert commit.seq == seq
            elif over:
                break
        _, n, _ = owner.hear()
        assert seq == 9 + n
