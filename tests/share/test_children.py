"""Children of owners and clients: forked, spawned, put in their place by exec. None of them is taken for its parent."""

import multiprocessing

import pytest

import mmsb
from tests.share.common import until


def change(name, n):
    with mmsb.attach(name) as view:
        seq = view.page("a").write(bytes([n]), n).seq
        assert view.page("a")[n] == n
        return seq


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing(method):
    with mmsb.open(name=f"mp-{method}") as state:
        state.create_page(8, name="a")
        state.serve()
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            seqs = pool.starmap(change, [(state.name, n) for n in range(1, 7)])
        assert sorted(seqs) == list(range(2, 8)) and state.page("a").read() == bytes([0, 1, 2, 3, 4, 5, 6, 0])


BOTH = '''
import subprocess
state = mmsb.open(sys.argv[1], name="both")
state.create_page(8, name="a")
state.serve()
before = set(os.listdir("/proc/self/fd"))
view = mmsb.attach("both")
view.page("a").write(b"x")
follower = view.follow(since=1, timeout=0)
assert next(follower).seq == 1 and view.at(1).page("a").size == 8
assert len(set(os.listdir("/proc/self/fd")) - before) >= 3, "there is something to inherit"
look = """
import json, os
links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
print(json.dumps([os.readlink(link) for link in links if os.path.islink(link)]))
"""
child = subprocess.run([sys.executable, "-c", look], close_fds=False, capture_output=True, check=True)
tell(json.loads(child.stdout))
view.close()
state.close()
'''


def test_an_execed_child_inherits_nothing(process, tmp_path):
    """Of an owner, a client, a ring, a follower, the log: only what a shell would hand over, too."""
    one = process(BOTH, tmp_path / "s")
    inherited = [name for name in one.hear() if not name.startswith(("pipe:", "/proc/", "/dev/"))]
    # What whoever runs the tests has open may come along; it is none of ours.
    ours = [name for name in inherited if "memfd" in name or "mmsb" in name or name.startswith((str(tmp_path), "anon"))]
    assert ours == [] and not any(name.startswith("socket:") for name in inherited)
    assert one.end() == 0


EXECED = """
if sys.argv[1] == "owner":
    state = mmsb.open(sys.argv[2])
    state.create_page(8, name="a")
    state.serve()
else:
    view = mmsb.attach(sys.argv[2])
    view.page("a").write(b"x")
tell("ready")
sys.stdin.readline()
os.execv(sys.executable, [sys.executable, "-c", "print('[1]', flush=True); input()"])
"""


def test_an_owner_becomes_another_program(process, tmp_path):
    """Its process lives on, but not as an owner: readers are told, and the store is free."""
    owner = process(EXECED, "owner", tmp_path / "s")
    owner.hear()
    with mmsb.attach(tmp_path / "s") as view:
        view.page("a").write(b"x")
        owner.say()
        assert owner.hear() == 1
        until(lambda: not view.owner_alive)
        assert view.page("a")[0:1] == b"x"
        with pytest.raises(mmsb.OwnerGoneError):
            view.page("a").write(b"y")
        with mmsb.open(tmp_path / "s") as state:
            assert state.seq == view.seq == 2
            state.serve()
            view.reattach()
            assert view.page("a").write(b"y").seq == 3
        owner.say()
        assert owner.end() == 0


def test_a_client_becomes_another_program(process, tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(8, name="a")
        state.serve()
        client = process(EXECED, "client", tmp_path / "s")
        client.hear()
        assert state.stats()["sharing"]["clients"] == 1
        client.say()
        assert client.hear() == 1
        until(lambda: state.stats()["sharing"]["clients"] == 0)
        assert not state._server.commands.slots and not state._server.failures
        client.say()
        assert client.end() == 0


FORKED = """
import threading
role, path = sys.argv[1:]
if role == "owner":
    state = mmsb.open(path)
    state.create_page(8, name="a")
    state.serve()
view = mmsb.attach(path)
page, stop, seqs = view.page("a"), threading.Event(), []

def hammer():
    while not stop.is_set():
        seqs.append(page.write(len(seqs).to_bytes(7, "little") + b"x").seq)
        assert view.snapshot()[page.page_id] == page.read()

hammering = threading.Thread(target=hammer)
hammering.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        try:
            page.read()
        except mmsb.ForkedStateError:
            sys.exit(3)  # through all that a process does at its end
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
done = len(seqs)
while len(seqs) < done + 10:
    time.sleep(0.001)
stop.set()
hammering.join()
tell(seqs == list(range(2, len(seqs) + 2)), view.owner_alive)
sys.stdin.readline()
"""

OWNER = """
state = mmsb.open(sys.argv[1])
state.create_page(8, name="a")
state.serve()
tell("ready")
sys.stdin.readline()
"""


@pytest.mark.parametrize("role", ["owner", "client"])
def test_forked_children_end_as_processes_do(process, tmp_path, role):
    """What they clean up is not their parent's, in the middle of whatever that does."""
    if role == "client":
        assert process(OWNER, tmp_path / "s").hear() == "ready"
    parent = process(FORKED, role, tmp_path / "s")
    assert parent.hear() == [True, True]
    with mmsb.attach(tmp_path / "s") as view:
        assert view.page("a").write(b"z", at=7).seq == view.seq
    parent.say()
    assert parent.end() == 0
