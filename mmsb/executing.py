"""Doing what clients ask: a command through a ring does what the same local call does. docs/understand/commands.md."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy

from mmsb import failures, metadata
from mmsb._core.delta import Delta
from mmsb._core.ring import CREATED, DETACH, KINDS, NO_WAVE, REBASE, delta_from_payload
from mmsb._core.ringserver import Command, RingServer, RingSlot
from mmsb.errors import CommandError, RightsError

if TYPE_CHECKING:
    from mmsb._core.batch import Batch
    from mmsb.state import State

DURABILITIES = (None, "process", "group", "power")
COUNT_MOST = (1 << 64) - 1
# However busy the rings are, the rest of the world is looked at so often.
LOOK_SECONDS = 0.001
NAMES = {number: name for name, number in KINDS.items()}
# Single changes that make no commit when nothing changes; a batch of a program always makes one.
PLAIN = {KINDS["write"], KINDS["assign"], KINDS["apply"]}


def text(value: bytes | None) -> str | None:
    """Text of a command. CommandError when it is none."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        raise CommandError("A name or source in the command is not UTF-8.", reason="no text") from None


class _Pages:
    """The pages of one command: those that it creates have no id for the client yet."""

    def __init__(self) -> None:
        self.created: list[int] = []
        self.runs: list[tuple[int, int]] = []

    def add(self, first: int, count: int) -> None:
        self.created.extend(range(first, first + count))
        self.runs.append((first, count))

    def __call__(self, page_id: int) -> int:
        if not page_id & CREATED:
            return page_id
        place = page_id ^ CREATED
        if place >= len(self.created):
            raise CommandError(
                f"The command names a page that it creates as number {place}, and creates {len(self.created)} before.",
                reason="no such page",
            )
        return self.created[place]


def _stage(batch: Batch, command: Command, pages: _Pages) -> None:
    """Puts one change into a batch."""
    kind = NAMES[command.kind]
    rebase = bool(command.flags & REBASE)
    if kind == "create":
        name, _, dtype = (text(command.rule) or "").partition(" ")
        page = batch.create_page(
            command.at,
            name=text(command.name),
            metadata=metadata.decode(command.metadata or b""),
            data=command.data or None,
            merge=name or None,
            dtype=dtype or None,
        )
        pages.add(page.page_id, 1)
    elif kind == "create_many":
        pages.add(batch.create_pages(command.count, command.at)[0], command.count)
    elif kind == "write_many":
        if command.count == 0:
            return
        ids, offsets, lengths = numpy.frombuffer(command.numbers, "<u8").reshape(3, command.count)
        if ids.size and int(ids.max()) & CREATED:
            ids = numpy.array([pages(int(one)) for one in ids], "<u8")
        batch.write_many(ids, offsets, lengths, command.data)
    else:
        page_id = pages(command.page_id)
        if kind == "write":
            batch.write(page_id, command.data, command.at, command.if_epoch, rebase)
        elif kind == "assign":
            batch.assign(page_id, command.data, command.at)
        elif kind == "apply":
            batch.apply(_delta(command, page_id), command.if_epoch, rebase)
        elif kind == "delete":
            batch.delete_page(page_id, detach=bool(command.flags & DETACH))
        elif kind == "resize":
            batch.resize(page_id, command.at)
        elif kind == "rename":
            batch.rename(page_id, text(command.name))
        else:
            batch.set_metadata(page_id, metadata.decode(command.metadata or b""))


def _delta(command: Command, page_id: int) -> Delta:
    return delta_from_payload(page_id, command.code, command.data, 0, 0, None, None, 0)


class CommandServer(RingServer):
    """Serves the rings of a State's clients, in a thread of its own or by poll(). Close it before the State.

    `add()` makes a client (a RingSlot; say what it may do with `slot.allow()`), `drop()` ends it. All methods may be
    called from any thread.
    """

    state: State
    on_broken: Callable[[RingSlot, str], object] | None = None

    def __init__(self, state: State) -> None:
        self._inside = threading.RLock()
        self._poller = select.epoll()
        self._stopped = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller.register(self._bell, select.EPOLLIN)

    def add(self, command_bytes: int = 1 << 20, completion_bytes: int = 1 << 18) -> RingSlot:
        """A new client. Its descriptors are for the other process."""
        with self._inside:
            slot = super().add(command_bytes, completion_bytes)
            # Each ring is told once and never read: somebody else holds the bell, too, and could have it emptied and
            # made blocking just when it is read.
            self._poller.register(slot.bell_fd, select.EPOLLIN | select.EPOLLET)
            return slot

    def drop(self, slot: RingSlot) -> None:
        """Ends a client after what it has published is done."""
        with self._inside:
            if slot in self.slots:
                # The client may hold the bell still, so closing it is not enough.
                self._poller.unregister(slot.bell_fd)
                super().drop(slot)

    def leave(self, slot: RingSlot) -> None:
        """Ends a client as drop() does, but what it has published is done in its turns, so that nobody waits for it."""
        with self._inside:
            if slot in self.slots:
                super().leave(slot)
                self._drop_broken()

    def poll(self) -> bool:
        """One turn for every client, without waiting. True when there may be more to do. Clients that broke the
        protocol of their ring are dropped, and on_broken(slot, reason) is told.
        """
        with self._inside:
            more = self.serve_all()
            self._drop_broken()
            return more

    def poll_while_busy(self, seconds: float) -> bool:
        """poll() for as long as clients go on sending, but not over `seconds`. True when there may be more to do."""
        with self._inside:
            more = self.serve_while_busy(seconds)
            self._drop_broken()
            return more

    def _drop_broken(self) -> None:
        while self.left:
            self.drop(self.left[-1])
        while self.broken:
            slot = self.broken.pop()
            reason = slot.stats["broken"]
            self.drop(slot)
            if self.on_broken is not None:
                self.on_broken(slot, reason)

    def wait(self, timeout: float) -> bool:
        """Waits until a client has sent something. False after `timeout` seconds."""
        with self._inside:
            if self.is_ready() or not self.fall_asleep():
                return True
        try:
            return bool(self._poller.poll(timeout))
        finally:
            with self._inside:
                self.stay_awake()

    def fileno(self) -> int:
        """A descriptor that is readable once a bell rang, for those who wait for more than this: between fall_asleep()
        and hush().
        """
        return self._poller.fileno()

    def hush(self) -> None:
        """Takes back what fall_asleep() asked for, after waiting for fileno()."""
        self._poller.poll(0)
        self.stay_awake()

    def run(self) -> None:
        """Serves until stop() is called: what a background thread does."""
        while not self._stopped:
            if not self.poll_while_busy(LOOK_SECONDS):
                self.wait(60.0)

    def stop(self) -> None:
        """Ends run() and wait()."""
        self._stopped = True
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Lets all clients go. Whoever is inside run() must have left it before. May be called again."""
        with self._inside:
            for slot in list(self.slots):
                self.drop(slot)
            if not self._poller.closed:
                self._poller.close()
                os.close(self._bell)

    def finish(self) -> None:
        """Does what is published now and has room for its completions. Afterwards abandon() may let the clients go."""
        with self._inside:
            for slot in list(self.slots):
                self.serve(slot, count=slot.stats["pending"] + 1, records=COUNT_MOST)

    def abandon(self) -> None:
        """Lets all clients go with what they sent; the only way in a forked child, where locks may be held for ever and
        the rings are still the parent's.
        """
        self.slots.clear()
        self._poller.close()
        os.close(self._bell)

    # ---- one command

    def execute(self, command: Command) -> tuple[bytes | None, int, int, int, list[tuple[int, int]]]:
        """Does a command as the same local call would; see RingServer."""
        try:
            return None, *self._do(command)
        except Exception as error:
            return failures.encode(error), 0, 0, 0, []

    def _do(self, command: Command) -> tuple[int, int, int, list[tuple[int, int]]]:
        state, kind = self.state, command.kind
        source = text(command.source)
        intent = None if command.intent is None else metadata.decode(command.intent)
        durability, propagate = DURABILITIES[command.durability], not command.flags & NO_WAVE
        if kind == KINDS["write"] and command.if_epoch is None and durability != "power":
            page = state.page(command.page_id)
            delta = page.write(command.data, command.at, source, intent, propagate=propagate)
            return (delta.seq, delta.epoch or 0, 0, []) if delta is not None else (0, 0, 0, [])
        label = text(command.name) if kind == KINDS["batch"] else None
        pages = _Pages()
        batch = state.batch(source=source, label=label, intent=intent, durability=durability, propagate=propagate)
        batch._skip_unchanged = kind in PLAIN
        with batch:
            with state._exclusive():  # so that the ids of new pages follow each other
                for one in command.inside if kind == KINDS["batch"] else [command]:
                    _stage(batch, one, pages)
        seq = batch.seq or 0
        epoch = batch.deltas[0].epoch if seq and kind in PLAIN else 0
        return seq, epoch or 0, pages.created[0] if pages.created else 0, pages.runs

    def refuse(self, right: str | None, page_id: int) -> bytes:
        """The facts of a command that is malformed (None), or for which a right is missing; see RingServer."""
        if right is None:
            return failures.encode(
                CommandError("The command is malformed. Use the same mmsb on both sides.", reason="malformed")
            )
        what = "create pages" if right == "create" else f"{right} page {page_id}"
        return failures.encode(
            RightsError(
                f"This client may not {what}. Ask its owner for the right to.", right=right, page_id=page_id or None
            )
        )
