"""Waves on disks that fill, fail and stop, and processes killed at every point of a commit and its wave."""

import errno
import os
import signal
import subprocess
import sys

import pytest

import mmsb
from mmsb import links
from mmsb._core.files import Files
from mmsb.testing.model import picture_of

CHAIN = 6


def chain(state):
    """A page, five that follow it, and one that a function computes from the last."""
    ids = [state.create_page(200, name=f"p{n}").page_id for n in range(CHAIN)]
    for parent, child in zip(ids, ids[1:], strict=False):
        state.depend(child, on=parent, link=links.passthrough())
    state.create_page(200, name="f")
    register(state)


def register(state):
    """The function, as a program does it after opening."""
    state.depend("f", on=f"p{CHAIN - 1}", fn=backwards)


def backwards(out, parent):
    out[:] = bytes(parent)[::-1]


def is_consistent(state):
    """Every page is as its source, or known to be stale."""
    source = state.page("p0").read()
    for name in [*(f"p{n}" for n in range(1, CHAIN)), "f"]:
        try:
            content = state.page(name).read()
        except mmsb.StalePageError:
            continue
        assert content == (source[::-1] if name == "f" else source), name


def heal(path):
    """Opens, checks, brings everything up to date, closes; and once more. The seq after it."""
    with mmsb.open(path, read_only=True) as reader:
        is_consistent(reader)
    with mmsb.open(path, segment_bytes=4096) as state:
        is_consistent(state)
        if "f" in state:
            register(state)
            state.propagate()
            source = state.page("p0").read()
            assert state.page("p5").read() == source == state.page("f").read()[::-1]
        report = state.verify(recompute=True)
        assert not [one for one in report.findings if not (one.path or "").endswith(".new")]
        return state.seq


WRITER = """
import sys
import mmsb
from mmsb._core.files import Files
sys.path.insert(0, sys.argv[3])
from test_waves import chain
files = Files(faulty=True)
state = mmsb.open(sys.argv[1], files=files, segment_bytes=4096)
chain(state)
files.arm(sys.argv[4], int(sys.argv[2]), "kill")
state.page("p0").write(b"killed" * 30)
state.page("p0").write(b"again!" * 30)
print("done")
"""


@pytest.mark.parametrize("kind", ["killpoint", "any"])
def test_killed_at_every_point_of_commits_and_waves(tmp_path, kind):
    """The n-th operation kills: between body, word and apply, of the commit and of its wave, and while rolling."""
    nth = 0
    while True:
        nth += 1
        path = tmp_path / f"s{nth}"
        command = [sys.executable, "-c", WRITER, str(path), str(nth), os.path.dirname(__file__), kind]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        heal(path)
        if ended.stdout.strip() == "done":
            break
        assert ended.returncode in (-signal.SIGKILL, 137), ended.stderr
    assert nth > 8


def test_killed_inside_a_function(tmp_path):
    script = """
import os, signal, sys, mmsb
state = mmsb.open(sys.argv[1])
a, b = state.create_page(8, name="p0"), state.create_page(8, name="b")
def fn(out, parent):
    if parent[0]:
        os.kill(os.getpid(), signal.SIGKILL)
state.depend(b, on=a, fn=fn)
a.write(b"1")
"""
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")], check=False)
    assert ended.returncode == -signal.SIGKILL
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert state.page("p0")[0] == ord("1")
        with pytest.raises(mmsb.StalePageError):
            state.page("b").read()


def test_waves_roll_segments(tmp_path):
    """A small segment ends in a commit or in its wave, and the wave is written anew for the next one."""
    with mmsb.open(tmp_path / "s", segment_bytes=4096) as state:
        chain(state)
        for n in range(60):
            state.page("p0").write(bytes([n + 1]) * 200, source=f"source {n % 3}")
            assert state.page("f").read() == bytes([n + 1]) * 200
        seen = state.seq, state.digest(), picture_of(state)
        assert state.stats()["log"]["segments"] > 10 and not state.verify(recompute=True).findings
    with mmsb.open(tmp_path / "s", read_only=True) as state:
        assert (state.seq, state.digest(), picture_of(state)) == seen
        assert all(commit.cause in (None, commit.seq - 1) for commit in state.log())


def test_a_full_disk_behind_a_commit(tmp_path):
    """The commit stands, its wave does not; what depends on it is stale until there is room."""
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files, segment_bytes=4096) as state:
        chain(state)
        refused = 0
        for n in range(40):
            content = bytes([n + 1]) * 200
            seq, segments = state.seq, state.stats()["log"]["segments"]
            files.arm("fallocate", 1, "fail", errno.ENOSPC)
            try:
                state.page("p0").write(content)
            except mmsb.StoreFullError:  # the commit itself found no room: nothing happened
                assert state.seq == seq and state.page("f").read() == state.page("p0").read()
                continue
            except mmsb.PropagationError as error:
                refused += 1
                assert isinstance(error.__cause__, mmsb.StoreFullError) and state.seq == seq + 1
                assert state.page("p0").read() == content
                for name in ("p1", "f"):
                    with pytest.raises(mmsb.StalePageError):
                        state.page(name).read()
                assert state.propagate() == CHAIN
            finally:
                files.arm("fallocate", 0)
            assert state.page("f").read() == content and state.stats()["log"]["segments"] >= segments
        assert refused and not state.verify(recompute=True).findings
    heal(tmp_path / "s")


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("effect", ["fail", "tear"])
def test_each_operation_fails_once(tmp_path, effect, error):
    """Whatever fails, on reopening every page is as its source or known to be stale."""
    nth = 0
    while True:
        nth += 1 if effect == "fail" else 3
        path, files = tmp_path / f"s{nth}", Files(faulty=True)
        hit = False
        state = mmsb.open(path, files=files, segment_bytes=4096)
        try:
            chain(state)
            files.arm("any", nth, effect, error)
            before = files.count("any")
            for n in range(4):
                state.page("p0").write(bytes([n + 1]) * 200)
            hit = files.count("any") - before < nth
        except (mmsb.MMSBError, OSError):
            pass
        finally:
            try:
                files.arm("any", 0)
                state.close()
            except (mmsb.MMSBError, OSError):
                pass
        heal(path)
        if hit:
            break


def test_an_abandoned_wave_forgets_what_it_only_staged(tmp_path):
    """A matrix that was computed in a wave that found no room is looked at again, though its epoch comes again."""
    files = Files(faulty=True)
    with mmsb.open(tmp_path / "s", files=files, segment_bytes=4096) as state:
        source, filler = state.create_page(24), state.create_page(3000)
        x, rows, columns, values, y = (state.create_page(size) for size in (2, 24, 8, 2, 2))
        x.write(b"\2\3")
        values.write(b"\1\1")
        state.depend(rows, on=source, fn=lambda out, parent: parent)
        state.depend(y, on=[x, rows, columns, values], link=links.matrix("plus-times", "uint8", 2, 2))
        one = b"".join(number.to_bytes(8, "little") for number in (0, 1, 1))
        two = b"".join(number.to_bytes(8, "little") for number in (0, 0, 2))
        abandoned = False
        for n in range(200):
            files.arm("fallocate", 1, "fail", errno.ENOSPC)
            try:
                source.write((one, two)[n % 2])
            except mmsb.PropagationError:
                abandoned = True
                files.arm("fallocate", 0)
                source.write((two, one)[n % 2])
                assert y.read() == (b"\0\4", b"\2\0")[n % 2]
            except mmsb.StoreFullError:
                files.arm("fallocate", 0)
                filler.write(bytes([n % 250 + 1]) * (n * 7 % 40 + 1))
            files.arm("fallocate", 0)
        assert abandoned and not state.verify(recompute=True).findings
