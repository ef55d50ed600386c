"""State: one memory. It ties the pages, the log, time travel and the store together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mmsb import conflict
from mmsb._core.batch import Batch
from mmsb._core.delta import Delta
from mmsb._core.files import Files
from mmsb._core.page import Page
from mmsb._core.state import Core
from mmsb.arguments import STATE_NAME_BYTES_MOST, bytes_of, is_text
from mmsb.edit import Edit
from mmsb.errors import (
    ConflictError,
    InvalidDeltaError,
    MMSBError,
    ReadOnlyError,
    StoreFullError,
    UnsupportedLocationError,
)
from mmsb.index import Indexes
from mmsb.log import full
from mmsb.propagation import Propagation
from mmsb.recovery import Recovered

if TYPE_CHECKING:
    from mmsb._core.semiring import Semiring
    from mmsb.history import Commit
    from mmsb.past import PastState
    from mmsb.verify import Report

DURABILITIES = ("none", "process", "group", "power")


class State(Propagation):
    """One versioned memory: pages of raw bytes that change only by deltas, recorded in one log.

    Made by :func:`mmsb.open`. Safe to use from several threads. Not usable after fork().

    `name`: as given to open(). `recovered`: what opening found, see mmsb.recovery.Recovered.
    """

    _opener: Callable[..., State]  # mmsb.open, for forks; set there, because opening comes after State

    def __init__(
        self,
        files: Files,
        *,
        name: str | None = None,
        max_bytes: int | None = None,
        disable: str | None = None,
        clock: Callable[[], int] | None = None,
        policy: Any = None,
        semirings: tuple[Semiring, ...] = (),
    ) -> None:
        self._start(files, max_bytes=max_bytes, disable=disable, clock=clock)
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"A State is named by a non-empty str, not by {name!r}.")
        if name is not None and not is_text(name):
            raise ValueError(f"The name {name!r} has no UTF-8 form. Use ordinary text.")
        if name is not None and len(name.encode("utf-8", "surrogateescape")) > STATE_NAME_BYTES_MOST:
            raise ValueError(
                f"The name of a State has at most {STATE_NAME_BYTES_MOST} bytes of UTF-8. Use a shorter one."
            )
        self._policy = policy
        self.name = name
        self._log: Any = None
        self._store: Any = None
        self._checkpoints: Any = None
        self.recovered = Recovered()
        self._indexes = Indexes(self)
        self._digests: Any = None
        self._server: Any = None
        self._engine = None
        self._own_semirings = semirings
        self._semirings = {(own.name, own.dtype): own for own in semirings}
        self._closing = threading.RLock()
        self._ending = False  # somebody is inside close()
        self._pid = os.getpid()
        self._own_clock = clock is not None

    def scratch(self) -> Core:
        """An empty core without a log: a place to rebuild pages of the past in."""
        core = Core()
        core._start(Files(), private=True)
        return core

    # ---- pages

    def create_page(
        self,
        size: int | None = None,
        name: str | None = None,
        *,
        location: str = "cpu",
        metadata: Mapping[str, Any] | None = None,
        data: Any = None,
        source: str | None = None,
        merge: str | None = None,
        dtype: Any = None,
    ) -> Page:
        """Creates a page of `size` bytes (default: those of `data`), zero where `data` does not reach.

        `merge`, `dtype`: the semiring of a merge page (docs/understand/merge-pages.md), whose zero then stands where
        `data` does not reach. Raises PageSizeError, DuplicateNameError, MetadataError, ArenaFullError,
        UnsupportedLocationError; MergePageError, UnknownSemiringError, PluginError.
        """
        with Batch(self, source=source) as batch:
            return batch.create_page(
                size, name=name, metadata=metadata, data=data, location=location, merge=merge, dtype=dtype
            )

    def create_pages(self, count: int, size: int, *, source: str | None = None) -> range:
        """Creates `count` unnamed pages of `size` zero bytes in one commit. Returns their ids."""
        with Batch(self, source=source) as batch:
            return batch.create_pages(count, size)

    def page(self, page: int | str | Page) -> Page:
        """The page of an id or a name. PageNotFoundError when there is none."""
        return Page._of(self, self.page_id_of(page))

    def pages(self) -> list[Page]:
        """All pages, ascending by id."""
        self._check_open()
        return [Page._of(self, page_id) for page_id in self._page_ids()]

    def __contains__(self, page: object) -> bool:
        try:
            self.page_id_of(page)
        except (MMSBError, TypeError):
            return False
        return True

    def delete_page(self, page: int | str | Page, *, source: str | None = None, detach: bool = False) -> None:
        """Deletes a page. Its id is never used again; its past stays readable with at(). PageHasEdgesError when it has
        edges, unless `detach`: then these go too.
        """
        with Batch(self, source=source) as batch:
            batch.delete_page(page, detach=detach)

    def set_metadata(
        self, page: int | str | Page, value: Mapping[str, Any] | None, *, source: str | None = None
    ) -> None:
        """Replaces a page's metadata (str to bytes, str, int, float or bool)."""
        with Batch(self, source=source) as batch:
            batch.set_metadata(page, value or {})

    def query_page(self, page: int | str | Page) -> bytes:
        """A copy of the page's bytes."""
        return self.page(page).read()

    # ---- changes

    def batch(
        self,
        *,
        source: str | None = None,
        label: str | None = None,
        intent: Mapping[str, Any] | bytes | None = None,
        durability: str | None = None,
        propagate: bool = True,
    ) -> Batch:
        """A commit gathered by hand, as a context manager; see Batch. It commits even when nothing changed.

        `source`: who writes. `label`: a name for the commit, for at(). `intent`: metadata of the commit. `durability`
        may raise the State's level for this commit, never lower it. Without `propagate` no wave follows, and what
        depends on the pages that change is stale.
        """
        return Batch(self, source=source, label=label, intent=intent, durability=durability, propagate=propagate)

    def apply(
        self,
        delta: Delta,
        *,
        source: str | None = None,
        intent: Mapping[str, Any] | None = None,
        if_epoch: int | None = None,
        rebase: bool = False,
        propagate: bool = True,
    ) -> Delta | None:
        """Commits a delta made elsewhere. Returns the Delta of the bytes that changed, None when none did.

        On a merge page its values are operands, and it must name whole lanes: page ⊕ values, never an overwriting.
        `source` and `intent` default to the delta's own, `propagate` is as in batch(). Raises InvalidDeltaError,
        PageNotFoundError, ConflictError.
        """
        if not isinstance(delta, Delta):
            raise TypeError(f"apply() takes a Delta, not {type(delta).__name__}")
        note = intent if intent is not None else delta.intent
        batch = Batch(self, source=source or delta.source, intent=note, propagate=propagate)
        batch._skip_unchanged = True
        with batch:
            batch.apply(delta, if_epoch=if_epoch, rebase=rebase)
        return batch.deltas[0] if batch.seq is not None else None

    def _edit(self, page: Page, dtype: Any, shape: Any, source: str | None, intent: Any) -> Edit:
        return Edit(page, dtype, shape, source, intent)

    def _update(self, page: Page, new: Any, when: Callable[[bytes], bool] | None, source: Any, intent: Any) -> Any:
        while True:
            with self._exclusive():
                old, epoch = page.read(), page.epoch
            if when is not None and not when(old):
                return None
            content = new(old) if callable(new) else new
            if content is None:
                return None
            given = bytes_of(content)
            if given != len(old):
                raise InvalidDeltaError(
                    f"Page {page.page_id} has {len(old)} bytes and the new content {given}. "
                    "Give the whole page, or use page.write(data, at=).",
                    page_id=page.page_id,
                )
            try:
                if page.merge is not None:
                    return page.write(content, 0, source, intent)
                return page.write(content, 0, source, intent, if_epoch=epoch)
            except ConflictError:
                continue  # somebody was faster; decide again on what is there now

    def _clone(self, page: Page, name: str | None, source: str | None) -> Page:
        with self._exclusive():
            content, notes, rule = page.read(), dict(page.metadata), page.merge
        merge, dtype = rule if rule is not None else (None, None)
        return self.create_page(
            len(content), name=name, metadata=notes, data=content, source=source, merge=merge, dtype=dtype
        )

    def _check_rebase(self, page_id: int, epoch: int, ranges: list[tuple[int, int]], rebase: bool) -> None:
        conflict.check_rebase(self, page_id, epoch, ranges, rebase)

    def _check_location(self, location: str) -> None:
        if location != "cpu":
            raise UnsupportedLocationError(
                f"No installed device backend offers location {location!r}. Use 'cpu'.", location=location
            )

    # ---- time

    def at(self, when: int | str | datetime) -> PastState:
        """The State as it was: at a seq, at the newest commit with a label, or at an aware datetime.

        Read-only; pages materialise on demand. RetentionError below the kept history, LookupError otherwise.
        """
        from mmsb.past import at

        self._check_open()
        return at(self, when)

    def log(
        self,
        *,
        page: int | str | Page | None = None,
        source: str | None = None,
        label: str | None = None,
        since: int = 1,
        until: int | None = None,
        kind: str | None = None,
    ) -> Iterator[Commit]:
        """Iterates commits lazily, oldest first; see mmsb.history.Commit. `since`, `until`: seqs, both included."""
        from mmsb.history import log

        self._check_open()
        return log(self, page=page, source=source, label=label, since=since, until=until, kind=kind)

    def last_write(self, page: int | str | Page, at: int = 0, length: int = 1, before: int | None = None) -> Any:
        """The newest Delta (with its `seq`) that wrote any of `length` bytes at `at`, in a commit before seq
        `before`; None when none is kept.
        """
        from mmsb.history import last_write

        return last_write(self, page, at=at, length=length, before=before)

    def diff(self, a: int | str | datetime, b: int | str | datetime) -> Iterator[Any]:
        """Iterates what differs between two states of the past, page by page; see mmsb.history.PageDifference."""
        from mmsb.history import diff

        return diff(self, a, b)

    def stepper(self, seq: int | None = None) -> Any:
        """A replica that walks through history, one commit forward or back at a time; see mmsb.stepper.Stepper."""
        from mmsb.stepper import Stepper

        return Stepper(self, self.seq if seq is None else seq)

    def _page_history(self, page_id: int, since_epoch: int = 0) -> Iterator[Delta]:
        from mmsb.history import page_history

        return page_history(self, page_id, since_epoch=since_epoch)

    def _page_at_epoch(self, page_id: int, epoch: int) -> Any:
        from mmsb.history import page_at_epoch

        return page_at_epoch(self, page_id, epoch)

    def _epoch_of_delta(self, delta: Delta) -> int:
        from mmsb.history import epoch_of_delta

        return epoch_of_delta(self, delta)

    def _deltas_of(self, seq: int) -> list[Delta]:
        self._indexes.of(self._log.segment_of(seq), seq)  # so that frames() begins near the commit
        for frame in self._log.frames(since=seq, until=seq):
            if frame.kind == "commit":
                return frame.deltas()
        return []

    def digest(self) -> bytes:
        """BLAKE3 digest of the whole state (32 bytes): equal digests, equal states. docs/formats/digest.md."""
        from mmsb.digest import state_digest

        self._check_open()
        return state_digest(self)

    # ---- first MMSB names

    def create_delta(self, page: int | str | Page, mask: Iterable[Any], data: Any, source: str = "router") -> Delta:
        """A Delta for a page from one flag per byte and dense (or sparse) values. Nothing is committed.

        Raises InvalidDeltaError when mask, data and page disagree.
        """
        page_id = self.page_id_of(page)
        flags = list(mask)
        size = self._page_info(page_id)[0]
        if len(flags) != size:
            raise InvalidDeltaError(
                f"The mask has {len(flags)} flags and page {page_id} has {size} bytes. Give one flag per byte.",
                page_id=page_id,
            )
        return Delta.from_mask(page_id, flags, data, source)

    def route_delta(self, delta: Delta, *, propagate: bool = True) -> Delta | None:
        """The first MMSB's name of apply()."""
        return self.apply(delta, propagate=propagate)

    def batch_route_deltas(self, deltas: Iterable[Delta], source: str | None = None) -> list[Delta]:
        """Commits deltas in the given order as one batch. Returns those that changed something."""
        with self.batch(source=source) as batch:
            for delta in deltas:
                batch.apply(delta)
        return batch.deltas

    # ---- the store

    def serve(self, *, clients: int = 64, thread: bool = True, commands: Any = True) -> None:
        """Lets other processes of this user attach (mmsb.attach), at most `clients` at a time, until close(); of a
        store that was opened with `group`, those of the group's members, too.

        A stored State is found by its path, one with a name by that. thread: a thread in the background takes them in
        and does what they ask; without it they wait for poll(). What they read costs nothing here. commands: what they
        may change. True: everything; False: nothing; a mapping: the "pages" it names ("all", or ids and names), and
        whether they may "create" and "delete"; a function: what it says of a client (its pid, uid and number). To
        clients of other users only a function can give anything.
        StoreLockedError when another process serves a State of the name; AttachError where sockets cannot be trusted;
        PageNotFoundError when `commands` names a page that is not there; ValueError when it has neither path nor name.
        """
        from mmsb.serving import Server

        self._check_idle()
        if self.read_only:
            raise ReadOnlyError("Only the owner serves a State. Open it without read_only=True.")
        if self._server is not None:
            raise ValueError("The State is served already.")
        self._server = Server(self, clients_most=clients, commands=commands)
        if thread:
            self._server.start()

    def poll(self, timeout: float | None = 0.0) -> int:
        """Does by hand what the thread of serve() does: takes clients in, does a turn of their commands, notices that
        they went.

        Waits up to `timeout` seconds (None: for ever) for something to do. Returns how much it did; 0: nothing.
        """
        self._check_idle()
        server = self._server
        if server is None or server.thread is not None:
            self._check_open()  # another thread may have closed it
            raise ValueError("The State is not served by hand. Call serve(thread=False) first.")
        done: int = server.poll(timeout)
        return done

    def sync(self) -> int:
        """Makes every commit so far durable. Returns durable_seq. CommitInDoubtError when the sync fails."""
        self._check_idle()
        self._log.sync(self)
        return self.durable_seq

    def _sync_older_segments(self) -> None:
        self._log.sync_older_segments(self)

    def _roll(self, needed_bytes: int) -> None:
        self._log.roll(self, needed_bytes)

    def _full(self, needed_bytes: int, number: int) -> StoreFullError | None:
        return full(OSError(number, os.strerror(number)), self._log.active.path, needed_bytes)

    def _anchored(self, frame: Any) -> None:
        self._log.anchored(frame)

    def _wake(self) -> None:
        self._log.wake(self)

    @property
    def first_seq(self) -> int:
        """The oldest seq whose state is kept; at() refuses what lies below."""
        return self._log.first_seq

    @property
    def path(self) -> str | None:
        """Directory of the store, None in memory."""
        return self._store.path if self._store is not None else None

    @property
    def uuid(self) -> bytes:
        """16 bytes that name the store; they stay the same for ever."""
        return self._log.uuid

    def checkpoint(self) -> int:
        """Writes a checkpoint of the state now. Returns its seq. A State in memory has nowhere to write one."""
        self._check_idle()
        if self._checkpoints is None:
            raise ReadOnlyError("A State in memory has no checkpoints. Use state.stop(checkpoint_path=) or fork().")
        if self.read_only:
            raise ReadOnlyError("The State is open for reading only. Open it without read_only=True.")
        return self._checkpoints.write(self)

    @property
    def anchor(self) -> bytes:
        """The newest anchor (32 bytes; zeros when there is none): a hash of all commits before it. Kept elsewhere, it
        proves later, with verify(head=), that they are still the same. sync() first, so that it covers every commit.
        """
        head: bytes = self._log.anchor_head
        return head

    def verify(
        self,
        progress: Callable[[int, int], None] | None = None,
        *,
        recompute: bool = False,
        head: bytes | None = None,
    ) -> Report:
        """Checks every frame, anchor and checkpoint, and replays the log against the pages. See mmsb.verify.Report.

        `recompute`: also computes every page that is computed from others once more, functions and native links alike,
        and reports the first that differs. Stale pages are left out. `head`: an `anchor` that was kept elsewhere, which
        the log must have.
        """
        from mmsb.verify import verify

        self._check_idle()
        return verify(self, progress, recompute=recompute, head=head)

    def compact(self, before: int | str | datetime, *, keep_labels: bool = True, dry_run: bool = False) -> Any:
        """Forgets the history before a seq, label or datetime; see mmsb.compact.CompactReport. Explicit, never by
        itself. `dry_run`: only says what would go.
        """
        from mmsb.compact import compact

        self._check_idle()
        return compact(self, before, keep_labels=keep_labels, dry_run=dry_run)

    def fork(self, at: int | str | datetime | None = None, path: Any = None) -> State:
        """A new, self-contained State that begins with this one's state at `at` (default: now). seq goes on."""
        from mmsb.fork import fork

        self._check_open()
        return fork(self, self.seq if at is None else at, path)

    def _checkpoint_before(self, seq: int) -> Any:
        """The newest checkpoint Image not after `seq`, or None."""
        return self._checkpoints.before(seq) if self._checkpoints is not None else None

    def replay(
        self, until: int | str | datetime | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Core:
        """Rebuilds the pages from the log, from the oldest kept state on, in a core of its own. Nothing is changed.

        `until`: a moment as for at() (default: now). `progress(done, total)` is called with commits, segment by
        segment. Raises as at() does, and CorruptLogError where the log is damaged.
        """
        from mmsb.past import rebuild, resolve

        self._check_open()
        return rebuild(self, self.seq if until is None else resolve(self, until), progress=progress)

    def stats(self) -> dict[str, Any]:
        """Facts and counters: seq, pages, arena, log, commits, durability."""
        self._check_open()
        log, server = self._log, self._server
        return {
            "seq": self.seq,
            "first_seq": self.first_seq,
            "durable_seq": self.durable_seq,
            "pages": self.page_count,
            "branch": self.branch,
            "arena": self._arena_stats(),
            "log": {
                "segments": len(log.segments),
                "bytes": log.bytes_used(),
                "failures": [str(error) for error in log.failures],
            },
            "commits": self._commit_stats(),
            "events": self._events.stats() if self._events is not None else None,
            "sharing": server.sharing.stats() if server is not None else None,
        }

    def stop(self, checkpoint_path: Any = None) -> None:
        """Closes the State; with `checkpoint_path` it first writes one file that mmsb.open() can start from."""
        if checkpoint_path is not None:
            from mmsb.checkpoint import write_image

            self._check_idle()
            write_image(self, checkpoint_path)
        self.close()

    def close(self) -> None:
        """Syncs, writes a checkpoint where it pays, and closes. Views of pages stay valid. May be called again.

        A poisoned writer is closed without syncing; recovery decides at the next open. In a forked child nothing is
        done: the store belongs to the parent.
        """
        if self._pid != os.getpid():
            return
        if (server := self._server) is not None:
            server.stop_commands()  # before the lock: a handler of a command may close as well
        with self._closing:
            if self.closed or self._ending:  # a handler of close() closes
                return
            self._check_idle()
            self._ending = True
            try:
                try:
                    self._close_policy()
                    self._tell()
                finally:
                    if self._store is not None and not self.read_only:
                        self._close_store()
                    if self._trace is not None:
                        self._trace.close()
            finally:
                with self._exclusive():  # a wave may be under way
                    self._close_gate(closed=True)
                if self._events is not None:
                    self._events.close()
                if (server := self._server) is not None:
                    server.stop()
                try:
                    self._log.close()
                finally:
                    if self._store is not None:
                        self._store.close()

    def _close_store(self) -> None:
        if self._log.flusher is not None:
            self._log.flusher.stop()
        try:
            if self.poisoned:
                return
            if self._checkpoints.pays(self):
                self._checkpoints.write(self)
            self._log.sync(self, clean=True)
        finally:
            if self._store.compressor is not None:
                self._store.compressor.stop()  # after the sync, which hands it the last segments

    def __enter__(self) -> State:
        self._check_open()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    def __len__(self) -> int:
        return self.page_count

    def __repr__(self) -> str:
        if self.closed:
            return "<State closed>"
        name = f" {self.name!r}" if self.name is not None else ""
        return f"<State{name} seq={self.seq} pages={self.page_count} {self.path or 'in memory'}>"
