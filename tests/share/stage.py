"""The stage on which everyone.py plays: processes that are started, struck down, and asked afterwards what they saw.

Used by test_kill_everyone.py, and by the measures of the reliability programme that kill by the thousand.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import mmsb
from mmsb.digest import core_digest
from tests.share import everyone
from tests.share.everyone import OWN, PAIR, SETS, Ledger

CAST = (("owner", 0), ("writer", 0), ("writer", 1), ("reader", 0), ("reader", 1))
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
            role=role,
            place=place,
            incarnation=self.incarnation,
            folder=str(self.folder),
            seed=seed,
            **stage.how,
        )

    def ends(self, seconds):
        """Whether it ends within so many seconds."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    @property
    def dead(self):
        return self.ends(0)

    @property
    def told(self):
        """Where it says how it failed."""
        return self.folder / f"{self.incarnation}.failure"

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
        return f"{self.role} {self.place}: {self.told.read_text() if self.told.exists() else 'ended without a word'}"

    def forget(self):
        """Removes what it left behind."""
        for what in ("ledger", "notes"):
            (self.folder / f"{self.incarnation}.{what}").unlink()

    def wait(self):
        assert self.ends(PATIENCE_SECONDS), f"{self.role} {self.place} does not end"
        os.close(self.pidfd)
        self.ended = True


class Stage:
    """One store, and all who live and die around it, in acts: begin(), as many strike() as wanted, end()."""

    def __init__(self, nursery, folder, dice, *, cast=CAST, durability="process"):
        self.nursery, self.folder, self.dice, self.cast = nursery, folder, dice, cast
        self.how = {"durability": durability, "kill_points": False}
        folder.mkdir()
        self.checked = 0  # the commit up to which all is checked
        self.incarnations = 0
        self.lives = []
        self.living = {}

    def begin(self):
        """Everyone comes, in the store as the act before left it."""
        for life in self.lives:
            life.forget()
        self.lives = []
        for who in self.cast:
            self.start(who)

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

    def strike(self, tally, delay=None):
        """Kills one or more at a random instant, or after `delay` seconds, and starts them again. How many."""
        dice = self.dice
        if dice.random() < 0.7:  # or else whatever is just beginning
            owner = self.living["owner", 0]
            self.until(lambda: owner.ledger[everyone.OPENED], "the owner does not begin")
        time.sleep(dice.random() ** 2 * 0.2 if delay is None else delay)
        cast = self.cast
        victims = [who for who in cast if dice.random() < (0.5 if who[0] == "owner" else 0.35)] or [dice.choice(cast)]
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

    def lose_owner(self, tally, delay, *, kill_points):
        """The owner dies by itself inside a commit, if it has kill points, or is killed after `delay` seconds. Another
        one comes, with kill points or without.
        """
        life = self.living.pop(("owner", 0))
        self.until(lambda: life.ledger[everyone.OPENED] or life.dead, "the owner does not begin")
        inside = life.ends(delay)
        if not inside:
            with suppress(ProcessLookupError):  # it was about to
                life.kill()
        life.wait()
        assert life.ledger[everyone.OPENED] and not life.told.exists(), life.failure()
        tally["killed inside a commit" if inside else "killed after a delay"] += 1
        self.await_mourners()
        self.how["kill_points"] = kill_points
        self.start(("owner", 0))

    def await_mourners(self):
        """Every reader that has read of the owner comes to know that it is gone."""
        readers = [life for life in self.living.values() if life.role == "reader" and not life.dead]
        for life in readers:
            learnt = life.ledger[everyone.LEARNT]
            if life.ledger[everyone.READS] and life.ledger[everyone.FOUND] == learnt:
                self.until(lambda life=life, learnt=learnt: life.ledger[everyone.LEARNT] > learnt, "nobody learns it")

    def end(self, tally):
        """Lets everyone come to an end, the owner last, and checks all that the act left. Forgets its history then."""
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
        check_stage(self, tally)
        with mmsb.open(self.folder / "store", segment_bytes=everyone.SEGMENT_BYTES) as state:
            assert state.seq == self.checked
            state.compact(state.seq, keep_labels=False)

    def close(self):
        for life in self.lives:
            if not life.ended:
                with suppress(ProcessLookupError):
                    life.kill()
                life.wait()


# ---- what is left of it


def committed(state, since):
    """Who wrote what when after commit `since`, as the log alone tells it: the seq of each number. Every commit is
    whole.
    """
    names = {state.page(name).page_id: name for name in (*OWN, *SETS)}
    pages = {names[page.page_id]: bytearray(page.read()) for page in state.at(since).pages() if page.page_id in names}
    found = {}
    for commit in state.log(since=since + 1):
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


def check_successions(lives, last):
    """What a reader saw last of a dead owner is what the next one began with, or what that one and its successors have
    written since, up to commit `last`: they go on in the log that the reader reads, and it may notice the death late.
    How often that was seen.
    """
    owners = [life for life in lives if life.role == "owner"]
    seen = 0
    for life in lives:
        if life.role != "reader":
            continue
        for pid, seq in life.notes:
            [place] = [place for place, owner in enumerate(owners) if owner.pid == pid]
            began = next(owner.notes[0][1] for owner in owners[place + 1 :] if owner.notes)
            assert began <= seq <= last, f"the last commit was {seq} for a reader and {began} for the next owner"
            seen += 1
    return seen


def check_stage(stage, tally):
    """Everything that can be said of a store when all is over."""
    last = max((life for life in stage.lives if life.role == "owner"), key=lambda life: life.incarnation)
    digest = b"".join(last.ledger[place].to_bytes(8, "little") for place in everyone.DIGEST)
    with mmsb.open(stage.folder / "store", read_only=True) as state:
        found = committed(state, stage.checked)
        assert state.seq == stage.checked + len(found) + (not stage.checked)
        assert state.digest() == core_digest(state.replay()) == digest, "replay gives another state"
        assert not state.verify().findings
        stage.checked = state.seq
    tally["commits"] += len(found)
    tally["acknowledged"] += check_log(found, stage.lives)
    tally["successions seen"] += check_successions(stage.lives, stage.checked)
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
