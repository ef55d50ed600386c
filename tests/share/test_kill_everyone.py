"""SIGKILL at random instants, for owner and clients alike: nothing lost, nothing torn, no reader stuck.

MMSB_KILL_SEED chooses whom it hits and when, as far as that can be chosen; MMSB_KILLS, how often.
"""

import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import pytest

import mmsb
import mmsb.view
from mmsb.digest import core_digest
from tests.share import everyone
from tests.share.everyone import OWN, PAIR, SETS, Ledger

SEED = int(os.environ.get("MMSB_KILL_SEED", "1"))
KILLS = [int(os.environ.get("MMSB_KILLS", "40"))]
if "MMSB_KILLS" not in os.environ:
    KILLS.append(pytest.param(2000, marks=pytest.mark.slow))
CAST = (("owner", 0), ("writer", 0), ("writer", 1), ("reader", 0), ("reader", 1))
# A store lives so long; then all of it is checked and the next one begins.
KILLS_PER_STORE = 100
STUCK_NS = 100_000_000
PATIENCE_SECONDS = 60.0


class Nursery:
    """A process that has everything imported, and forks: a life costs milliseconds."""

    def __init__(self):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.popen = subprocess.Popen(
            [sys.executable, everyone.__file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        self.socket.settimeout(PATIENCE_SECONDS)

    def fork(self, **facts):
        """(pid, pidfd) of a new process."""
        self.socket.send(json.dumps(facts).encode())
        data, fds, _, _ = socket.recv_fds(self.socket, 64, 1)
        assert data and fds, f"{facts} did not live"
        return int(data), fds[0]

    def close(self):
        self.socket.close()
        self.popen.wait()


class Life:
    """One process: who it is, and what it leaves behind."""

    def __init__(self, stage, role, place):
        self.role, self.place = role, place
        self.incarnation = stage.incarnations = stage.incarnations + 1
        self.folder, self.ended = stage.folder, False
        self.ledger = Ledger(self.folder / f"{self.incarnation}.ledger", make=True)
        (self.folder / f"{self.incarnation}.notes").touch()
        seed = stage.dice.getrandbits(64)
        self.pid, self.pidfd = stage.nursery.fork(
            role=role, place=place, incarnation=self.incarnation, folder=str(self.folder), seed=seed
        )

    @property
    def dead(self):
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(0))

    @property
    def notes(self):
        data = (self.folder / f"{self.incarnation}.notes").read_bytes()
        return list(PAIR.iter_unpack(data[: len(data) // PAIR.size * PAIR.size]))

    def kill(self):
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def check_alive(self):
        assert not self.dead, self.failure()
        since = self.ledger[everyone.SINCE_NS]
        assert not since or time.monotonic_ns() - since < PATIENCE_SECONDS * 1e9, "a reader does not come back"

    def failure(self):
        told = self.folder / f"{self.incarnation}.failure"
        return f"{self.role} {self.place}: {told.read_text() if told.exists() else 'ended without a word'}"

    def wait(self):
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        assert poller.poll(PATIENCE_SECONDS * 1000), f"{self.role} {self.place} does not end"
        os.close(self.pidfd)
        self.ended = True


class Stage:
    """One store, and all who live and die around it."""

    def __init__(self, nursery, folder, dice):
        self.nursery, self.folder, self.dice = nursery, folder, dice
        folder.mkdir()
        self.incarnations = 0
        self.lives = []
        self.living = {}

    def start(self, who):
        self.living[who] = Life(self, *who)
        self.lives.append(self.living[who])

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            for life in self.living.values():
                life.check_alive()
            assert time.monotonic() < end, what
            time.sleep(0.001)

    def strike(self, tally):
        """Kills one or more at a random instant, and starts them again. How many."""
        dice = self.dice
        if dice.random() < 0.7:  # or else whatever is just beginning
            owner = self.living["owner", 0]
            self.until(lambda: owner.ledger[everyone.OPENED], "the owner does not begin")
        time.sleep(dice.random() ** 2 * 0.2)
        victims = [who for who in CAST if dice.random() < 0.35] or [dice.choice(CAST)]
        dice.shuffle(victims)
        for who in victims:
            self.living[who].check_alive()
        struck = [self.living.pop(who) for who in victims]
        for life in struck:
            life.kill()
        for life in struck:
            life.wait()
            tally[f"{life.role}s killed"] += 1
        if ("owner", 0) in victims and dice.random() < 0.8:  # or else the next one is there before they know
            self.await_mourners()
        for who in victims:
            self.start(who)
        return len(victims)

    def await_mourners(self):
        """Every reader that has read of the owner comes to know that it is gone."""
        readers = [life for life in self.living.values() if life.role == "reader" and not life.dead]
        for life in readers:
            learnt = life.ledger[everyone.LEARNT]
            if life.ledger[everyone.READS] and life.ledger[everyone.FOUND] == learnt:
                self.until(lambda life=life, learnt=learnt: life.ledger[everyone.LEARNT] > learnt, "nobody learns it")

    def end(self):
        """Lets everyone come to an end, the owner last."""
        self.until(
            lambda: all(
                life.ledger[everyone.READS if who[0] == "reader" else everyone.ACKNOWLEDGED]
                for who, life in self.living.items()
            ),
            "somebody got nowhere",
        )
        for who in sorted(self.living, key=lambda who: who[0] == "owner"):
            life = self.living.pop(who)
            life.ledger[everyone.STOP] = 1
            life.wait()
            assert life.ledger[everyone.DONE], life.failure()

    def close(self):
        for life in self.lives:
            if not life.ended:
                with suppress(ProcessLookupError):
                    life.kill()
                life.wait()


# ---- what is left of it


def committed(state):
    """Who wrote what when, as the log alone tells it: the seq of each number. Every commit is whole."""
    names = {state.page(name).page_id: name for name in (*OWN, *SETS)}
    pages, found = {}, {}
    for commit in state.log():
        touched = set()
        for change in commit.changes:
            name = names.get(change.page_id)
            if name is None or change.kind not in ("create", "delta"):
                continue
            if change.kind == "create":
                pages[name] = bytearray(change.size)
            if change.delta is not None:
                change.delta.apply_to(pages[name])
            touched.add(name)
        if touched >= {*OWN, *SETS}:
            continue  # the first one, which makes them
        [writer] = touched & {*OWN}
        number = everyone.number_in(pages[writer])
        assert pages[writer] == everyone.own(number), f"commit {commit.seq} is not what was sent"
        if touched & SETS.keys():
            for name, size in SETS.items():
                assert pages[name] == everyone.whole(number, size), f"commit {commit.seq} is not whole"
        assert number not in found, f"{number} was done twice"
        found[number] = commit.seq
    return found


def check_log(found, lives):
    """What was acknowledged is there as that commit; of the rest a beginning, in its order, and nothing else."""
    acknowledged = 0
    for life in lives:
        if life.role == "reader":
            continue
        done = [number for number in found if number >> 24 == life.incarnation]
        first = everyone.number_of(life.incarnation, 1)
        assert done == list(range(first, first + len(done))), "something was left out, or done in another order"
        for number, seq in life.notes:
            if number:
                assert found.get(number) == seq, f"{number} was acknowledged as commit {seq} and is {found.get(number)}"
                acknowledged += 1
    return acknowledged


def check_successions(lives):
    """What a reader saw last of a dead owner is what the next one began with. How often that was seen."""
    owners = [life for life in lives if life.role == "owner"]
    seen = 0
    for life in lives:
        if life.role != "reader":
            continue
        for pid, seq in life.notes:
            [place] = [place for place, owner in enumerate(owners) if owner.pid == pid]
            began = next(owner.notes[0][1] for owner in owners[place + 1 :] if owner.notes)
            assert began == seq, f"the last commit was {seq} for a reader and {began} for the next owner"
            seen += 1
    return seen


def check_stage(stage, tally):
    """Everything that can be said of a store when all is over."""
    last = max((life for life in stage.lives if life.role == "owner"), key=lambda life: life.incarnation)
    digest = b"".join(last.ledger[place].to_bytes(8, "little") for place in everyone.DIGEST)
    with mmsb.open(stage.folder / "store", read_only=True) as state:
        found = committed(state)
        assert state.seq == len(found) + 1
        assert state.digest() == core_digest(state.replay()) == digest, "replay gives another state"
        assert not state.verify().findings
    tally["commits"] += len(found)
    tally["acknowledged"] += check_log(found, stage.lives)
    tally["successions seen"] += check_successions(stage.lives)
    for life in stage.lives:
        if life.role == "reader":
            tally["reads"] += life.ledger[everyone.READS]
            tally["reads of a dead owner"] += life.ledger[everyone.FROZEN]
            tally["owners found again"] += life.ledger[everyone.FOUND]
            tally["commits followed"] += life.ledger[everyone.FOLLOWED]
            held = life.ledger[everyone.HELD_NS]
            assert held < STUCK_NS, f"a read kept its reader for {held / 1e6:.1f} ms"
            tally["longest read, us"] = max(tally["longest read, us"], held // 1000)
            tally["longest with waiting for a processor, us"] = max(
                tally["longest with waiting for a processor, us"], life.ledger[everyone.WALL_NS] // 1000
            )


@pytest.fixture
def nursery():
    one = Nursery()
    yield one
    one.close()


@pytest.mark.parametrize("kills", KILLS)
def test_nothing_is_lost_or_torn(tmp_path, nursery, kills):
    print(f"MMSB_KILL_SEED={SEED} MMSB_KILLS={kills}")
    dice, tally, done = random.Random(SEED), Counter(), 0
    begun = time.monotonic()
    for n in range(-(-kills // KILLS_PER_STORE)):
        stage = Stage(nursery, tmp_path / f"{n}", dice)
        try:
            for who in CAST:
                stage.start(who)
            while done < min(kills, (n + 1) * KILLS_PER_STORE):
                done += stage.strike(tally)
            stage.end()
        finally:
            stage.close()
        check_stage(stage, tally)
        shutil.rmtree(stage.folder)
    print(*(f"{what}: {count}" for what, count in sorted(tally.items())), f"{time.monotonic() - begun:.0f} s", sep="\n")
    assert done >= kills
    assert kills < 40 or len(tally) == 12 and all(tally.values()), "something was never tried"


# ---- that it would be noticed


def test_what_is_lost_or_invented_is_noticed():
    found = {everyone.number_of(1, 1): 2, everyone.number_of(1, 2): 3}

    def check(notes, found=found):
        return check_log(found, [SimpleNamespace(role="writer", incarnation=1, notes=notes)])

    first, second, third = (everyone.number_of(1, n) for n in (1, 2, 3))
    assert check([(first, 2)]) == 1 and check([(first, 2), (second, 3)]) == 2
    for wrong in ([(third, 4)], [(first, 3)]):
        with pytest.raises(AssertionError, match="was acknowledged"):
            check(wrong)
    for wrong in ({second: 2}, {second: 2, first: 3}, {first: 2, third: 3}):
        with pytest.raises(AssertionError, match="left out"):
            check([], wrong)
    owners = [SimpleNamespace(role="owner", pid=pid, notes=[(0, seq)]) for pid, seq in ((1, 0), (2, 7))]
    assert check_successions([*owners, SimpleNamespace(role="reader", notes=[(1, 7)])]) == 1
    with pytest.raises(AssertionError, match="the last commit was 8"):
        check_successions([*owners, SimpleNamespace(role="reader", notes=[(1, 8)])])


def test_what_is_torn_is_noticed():
    ids = {name: place for place, name in enumerate((*OWN, *SETS), 1)}
    pages = {ids[name]: everyone.own(5) for name in OWN} | {ids[name]: everyone.whole(5, SETS[name]) for name in SETS}

    def look(seq=1, **changed):
        now = mmsb.view.Snapshot(seq, pages | {ids[name]: content for name, content in changed.items()}, ids)
        view, watch = SimpleNamespace(snapshot=lambda ids: now), nullcontext()
        everyone.look_at_all(view, ids, looked, watch)

    looked = everyone.Looked()
    look(2)
    for text, change in (
        ("mixes", {"s2": everyone.whole(6, 1024)}),
        ("mixes", {"s0": everyone.whole(5, 64)[:-1] + b"x"}),
        ("torn", {"w0": everyone.own(6)[:512] + everyone.own(5)[512:]}),
        ("went back", {"w0": everyone.own(4)}),
        ("seq went back", {"seq": 1}),
        ("half", {name: everyone.whole(6, size) for name, size in SETS.items()}),
    ):
        with pytest.raises(AssertionError, match=text):
            look(**{"seq": 2} | change)


def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("how", [time.sleep, spin])
def test_a_reader_that_is_kept_is_noticed(tmp_path, how):
    """Whether it sleeps or spins: only the lack of a processor is discounted."""
    ledger = Ledger(tmp_path / "ledger", make=True)
    with everyone.Stopwatch(ledger):
        how(0.12)
    assert ledger[everyone.HELD_NS] > STUCK_NS and ledger[everyone.READS] == 1
