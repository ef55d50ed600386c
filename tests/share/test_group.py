"""Sharing with a group of users: only when asked for, and then for reading."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

import mmsb

OTHER_USER, GROUP = 54321, 54322
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user to try it")

# Another user, in the group or not. What it needs is imported before, for it may not enter the directory of Python.
STRANGER = """
    import queue, mmsb.view, mmsb.past, mmsb.history, mmsb.following, mmsb.checkpoint, mmsb.recovery, mmsb.stepper
    path, other, group, mine = sys.argv[1:5]
    with mmsb.open(name="warm") as warm:
        warm.create_page(8)
        warm.serve()
        with mmsb.attach("warm") as view:
            view.page(1).read(), view.at(1).page(1).read(), list(view.log())
            view.page(1).write(b"x")
            try:
                mmsb.attach("nobody")
            except mmsb.OwnerGoneError:
                pass
    os.environ["XDG_RUNTIME_DIR"] = "/nowhere"
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(other))
    tell("ready")
    sys.stdin.readline()
"""


@pytest.fixture
def folder():
    """A directory that others may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made)


def modes(path):
    """Modes of all files and directories of a store."""
    found = [path, *path.rglob("*")]
    return {stat.S_IMODE(one.lstat().st_mode) for one in found if not stat.S_ISSOCK(one.lstat().st_mode)}


def grow(state):
    """Makes files of every kind."""
    page = state.create_page(4096)
    for i in range(3000):
        page.write(i.to_bytes(600, "little"))
    state.checkpoint()


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_without_a_group_files_are_their_user_s_alone_whatever_the_umask(folder, mask):
    before = os.umask(mask)
    try:
        with mmsb.open(folder / "s", segment_bytes=1 << 20) as state:
            grow(state)
            state.serve()
            assert modes(folder / "s") == {0o700, 0o600}
            assert not (folder / "s/socket").exists()
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_a_group_may_read_what_is_there_and_what_comes(folder, mask):
    gid = os.getgid()
    with mmsb.open(folder / "s", segment_bytes=1 << 20) as state:
        grow(state)
    before = os.umask(mask)
    try:
        with mmsb.open(folder / "s", segment_bytes=1 << 20, group=gid) as state:
            grow(state)
            state.serve()
            assert modes(folder / "s") == {0o2750, 0o640}
            facts = (folder / "s/socket").lstat()
            assert (stat.S_IMODE(facts.st_mode), facts.st_gid) == (0o660, gid)
        assert not (folder / "s/socket").exists()
        with mmsb.open(folder / "s") as state:  # not asked for again
            grow(state)
            state.serve()
            assert not (folder / "s/socket").exists()
            state.stop(folder / "one-file")
        assert stat.S_IMODE((folder / "one-file").stat().st_mode) == 0o600
    finally:
        os.umask(before)


@as_root
def test_a_member_reads_follows_and_may_not_change(folder, process):
    member = """
    with mmsb.attach(path) as view:
        tell(view.page("p").read(4, 1).decode(), view.at(1).page("p").read(0, 1).decode(), len(list(view.log())))
        for rights in range(2):
            try:
                tell(view.page("p").write(b"Z").seq)
            except mmsb.RightsError as error:
                tell(error.facts["right"])
            view.reattach()
        tell(next(view.follow(4, timeout=10)).seq)
    with mmsb.open(path, read_only=True) as state:
        tell(state.page("p").read(4, 1).decode())
    """
    given = []

    def rights(peer):
        given.append(peer.uid)
        return {"pages": ["p"]} if len(given) > 1 else False

    with mmsb.open(folder / "s", group=GROUP) as state:
        state.create_page(16, name="p", data=b"a" * 16)
        state.page("p").write(b"b", at=4)
        state.serve(commands=rights)
        other = process(STRANGER + member, folder / "s", OTHER_USER, GROUP, 0)
        assert other.hear() == "ready"
        other.say()
        assert other.hear() == ["b", "a", 2]
        assert other.hear() == "commands"
        assert other.hear() == 3
        assert given == [OTHER_USER, OTHER_USER]
        state.page("p").write(b"!", at=8)
        assert other.hear() == 4
        assert other.hear() == "b"


@as_root
def test_rights_for_everybody_are_not_for_other_users(folder, process):
    with mmsb.open(folder / "s", group=os.getgid()) as state:
        state.create_page(16, name="p")
        state.serve(commands=True)
        code = """
    with mmsb.attach(path) as view:
        try:
            view.page("p").write(b"Z")
        except mmsb.RightsError:
            tell("refused")
        """
        other = process(STRANGER + code, folder / "s", OTHER_USER, os.getgid(), 0)
        assert other.hear() == "ready"
        other.say()
        assert other.hear() == "refused"
        assert state.page("p").read(0, 1) == b"\0"


@as_root
@pytest.mark.parametrize("shared", [False, True])
def test_others_get_nothing(folder, process, shared):
    how = {"group": os.getgid()} if shared else {}
    with mmsb.open(folder / "s", **how) as state:
        state.serve()
        code = """
    try:
        mmsb.attach(path)
    except Exception as error:
        tell(type(error).__name__, isinstance(error, mmsb.MMSBError))
        """
        other = process(STRANGER + code, folder / "s", OTHER_USER, GROUP, 0)
        assert other.hear() == "ready"
        other.say()
        assert other.hear() == ["NotAStoreError", True]


def test_who_answers_in_a_store_must_be_who_owns_it(folder):
    import socket

    with mmsb.open(folder / "s", group=os.getgid()) as state:
        uuid = state.uuid
    assert uuid
    impostor = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    impostor.bind(str(folder / "s/socket"))
    impostor.listen()
    if os.getuid() == 0:
        os.chown(folder / "s", OTHER_USER, -1)
        with pytest.raises(mmsb.AttachError, match="does not belong"):
            mmsb.attach(folder / "s")
    impostor.close()
    os.chown(folder / "s", os.getuid(), -1)
    with pytest.raises(mmsb.OwnerGoneError):  # nobody listens behind that socket
        mmsb.attach(folder / "s")
    with mmsb.open(folder / "s", group=os.getgid()) as state:
        state.serve()  # in its place
        with mmsb.attach(folder / "s") as view:
            assert view.seq == state.seq


@pytest.mark.parametrize(
    ("group", "error"),
    [("no such group at all", ValueError), (True, TypeError), (2.0, TypeError), (1 << 40, ValueError)],
)
def test_a_group_that_there_is_not(folder, group, error):
    with pytest.raises(error):
        mmsb.open(folder / "s", group=group)
    assert not (folder / "s").exists()


def test_only_a_stored_state_is_shared_and_only_by_its_writer(folder):
    with pytest.raises(ValueError, match="stored State"):
        mmsb.open(group=os.getgid())
    mmsb.open(folder / "s").close()
    with pytest.raises(ValueError, match="Only who writes"):
        mmsb.open(folder / "s", read_only=True, group=os.getgid())


def test_a_bell_that_its_client_made_blocking_stops_nobody():
    from mmsb.commands import Client
    from mmsb.executing import CommandServer

    with mmsb.open() as state:
        page_id = state.create_page(8).page_id
        server = CommandServer(state)
        slot = server.add()
        slot.allow()
        client = Client(*(os.dup(fd) for fd in (slot.fd, slot.flag_fd, slot.bell_fd)))
        assert server.fall_asleep()
        number = client.submit.write(page_id, b"x")
        assert server.wait(5)
        # Never read by the owner, for whom a client could empty it first.
        assert os.eventfd_read(slot.bell_fd) >= 1
        os.set_blocking(slot.bell_fd, True)
        assert not server.poll()
        assert client.finish(number).seq == 2
        assert server.fall_asleep()
        os.eventfd_write(slot.bell_fd, 1)
        server.hush()
        client.close()
        server.close()
