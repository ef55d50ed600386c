"""View: a State of another process, to read and to change by asking. mmsb.attach() makes it."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mmsb._core.files import Files
from mmsb._core.index import KINDS
from mmsb._core.page import Page
from mmsb._core.reader import LOG, STALE, Cell
from mmsb._core.state import Core
from mmsb.arguments import seconds_of
from mmsb.asking import Asking
from mmsb.bases import segments_between
from mmsb.connection import Connection
from mmsb.errors import MMSBError, OwnerGoneError, PageNotFoundError, RetentionError
from mmsb.following import Follower
from mmsb.index import Indexes
from mmsb.pastpage import PastPage
from mmsb.sharedlog import ReadStore, SharedBases, SharedFileLog, SharedMemoryLog
from mmsb.subscribing import Listeners, Subscription
from mmsb.viewpage import ViewPage
from mmsb.waiting import SLICE_SECONDS, Waker

if TYPE_CHECKING:
    from mmsb.history import Commit
    from mmsb.past import PastState

DESCRIBING = KINDS["create"] | KINDS["delete"] | KINDS["rename"] | KINDS["metadata"]
EPOCH_ATTEMPTS = 64
_open_views: weakref.WeakSet[View] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for view in list(_open_views):
        view._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Snapshot(Mapping[int, bytes]):
    """Pages as they all were after commit `seq`: page ids to bytes, also found by page and by name. Immutable.

    Names are those that the view knew when it made this.
    """

    def __init__(self, seq: int, pages: dict[int, bytes], ids: dict[str, int]) -> None:
        self.seq = seq
        self._pages, self._ids = pages, ids

    def __getitem__(self, page: Any) -> bytes:
        return self._pages[self._ids[page] if isinstance(page, str) else getattr(page, "page_id", page)]

    def __iter__(self) -> Iterator[int]:
        return iter(self._pages)

    def __len__(self) -> int:
        return len(self._pages)

    def __repr__(self) -> str:
        return f"<Snapshot seq={self.seq} pages={len(self._pages)}>"


class View(Asking):
    """Reads the pages, the log and the past of a State that another process owns, and asks that for changes.

    No read asks the owner, waits for it or makes it wait. Once the owner is gone, all stays readable as it was after
    its last commit; `reattach()` finds the next one. A change that was acknowledged is seen by every read that follows.
    Safe to use from several threads. Not usable after fork(). `stale_reads`: read pages that are not up to date with
    what they depend on, instead of raising StalePageError.
    """

    def __init__(self, key: str, target: str, timeout: float, ring_bytes: int) -> None:
        self._key, self._target = key, target
        self._timeout, self._ring_bytes = timeout, ring_bytes
        self.stale_reads = False
        self.read_only = True
        self._checkpoints: Any = None
        self._store: Any = None
        self._cell = Cell()
        self._listeners, self._waker = Listeners(self), Waker(self)
        self._begin(Connection(key, target, timeout))
        _open_views.add(self)

    def _begin(self, connection: Connection) -> None:
        """Reads by this connection from now on."""
        welcome, reader, names = connection.welcome, connection.reader, connection.names
        assert welcome is not None and reader is not None and names is not None
        self._connection, self._welcome, self._reader = connection, welcome, reader
        self._cell.reader = reader
        self._names_seq, self._names, self._notes = names
        self._ids = {name: page_id for page_id, name in self._names.items()}
        self._shared_log: Any = None
        self._indexes = Indexes(self)  # type: ignore[arg-type]
        self._indexes.bases = SharedBases(self)  # type: ignore[arg-type]
        me = weakref.proxy(self)
        connection.went = lambda number: View._went(me, number)

    # ---- facts

    @property
    def seq(self) -> int:
        """The newest commit that can be followed; of an owner that is gone, its last one."""
        return int(self._reader.seq)

    @property
    def durable_seq(self) -> int:
        """Highest seq known to survive a power cut."""
        self._check_open()
        return int(self._reader.durable_seq)

    @property
    def name(self) -> str | None:
        """The State's name."""
        return self._welcome.name

    @property
    def path(self) -> str | None:
        """Directory of the store, None in memory."""
        return self._welcome.path

    @property
    def uuid(self) -> bytes:
        """16 bytes that name the store, or the State in memory."""
        return self._welcome.uuid

    @property
    def owner_pid(self) -> int:
        """The process that owns the State, or did."""
        return self._connection.owner_pid

    @property
    def owner_alive(self) -> bool:
        """Whether the owner is there, as far as this process has been told."""
        with suppress(MMSBError):
            self._connection.take()
        return not self._connection.ended

    @property
    def closed(self) -> bool:
        """True after close()."""
        return bool(self._reader.closed)

    @property
    def first_seq(self) -> int:
        """The oldest seq whose state is kept."""
        return int(self._log.first_seq)

    # ---- pages

    def page(self, page: int | str | ViewPage) -> ViewPage:
        """The page of an id or a name. PageNotFoundError when there is none."""
        return ViewPage(self, self.page_id_of(page))

    def pages(self) -> list[ViewPage]:
        """All pages, ascending by id, as after one commit."""
        return [ViewPage(self, page_id) for page_id in self._reader.live()[1]]

    def page_id_of(self, page: Any) -> int:
        """The id of a page that is there. PageNotFoundError, TypeError."""
        self._check_open()
        if isinstance(page, str):
            self._learn_names()
            if page not in self._ids:
                raise PageNotFoundError(
                    f"No page is named {page!r}. Look at view.pages() for the pages there are.", page=page
                )
            return self._ids[page]
        if isinstance(page, (ViewPage, Page, PastPage)):
            page = page.page_id
        if isinstance(page, bool) or not hasattr(page, "__index__"):
            raise TypeError(f"a page is given by its id, its name or a page, not by {type(page).__name__}")
        page_id: int = page.__index__()
        if not 1 <= page_id < 1 << 63 or not self._reader.has(page_id):
            raise PageNotFoundError(
                f"No page has the id {page_id}. Look at view.pages() for the pages there are.", page=page_id
            )
        return page_id

    def __contains__(self, page: object) -> bool:
        try:
            self.page_id_of(page)
        except (PageNotFoundError, TypeError):
            return False
        return True

    def __len__(self) -> int:
        return len(self._reader.live()[1])

    def query_page(self, page: int | str | ViewPage) -> bytes:
        """A copy of the page's bytes."""
        return self.page(page).read()

    def snapshot(self, pages: Iterable[int | str | ViewPage] | None = None) -> Snapshot:
        """Copies of pages (default: of all), all as after one commit. PageNotFoundError."""
        for _ in range(EPOCH_ATTEMPTS):
            if pages is None:
                listed, ids, end = self._reader.live()
            else:
                ids = sorted({self.page_id_of(page) for page in pages})
            try:
                seq, contents, flags = self._reader.snapshot(ids)
            except PageNotFoundError:
                if pages is not None:
                    raise
                continue  # of all pages, one was deleted meanwhile
            if pages is None and seq != listed and self._reader.live()[2] != end:
                continue  # one was created meanwhile, and may have been there at `seq`
            stale = next((page_id for page_id, flag in flags.items() if flag & STALE), None)
            if stale is not None:
                ViewPage(self, stale).check_fresh(flags[stale])
            return Snapshot(seq, contents, self._known_ids())
        past = self.at(self.seq)
        return Snapshot(past.seq, {page.page_id: page.read() for page in past.pages()}, self._known_ids())

    def _epoch_of(self, page_id: int) -> int:
        """A page's epoch. It is not in the log, so a moment is looked for at which the page is not being changed."""
        for _ in range(EPOCH_ATTEMPTS):
            _, epoch, _, seq = self._reader.facts(page_id)
            if epoch is not None:
                return int(epoch)
        return int(self.at(min(seq, self.seq))._page_info(page_id)[1])

    # ---- names and metadata

    def _learn_names(self) -> None:
        """Follows the log to the newest change of a name or of metadata."""
        reader = self._reader
        if reader.described_seq <= self._names_seq and not reader.gone:
            return
        with self._lock:
            log = self._log
            while True:
                until = self.seq
                base = log.base
                if base is not None and self._names_seq < base.seq <= until:
                    # The owner compacted what lies between: all that was said there is in the base.
                    self._names, self._notes = dict(base.names), dict(base.metadata)
                    self._ids = {name: page_id for page_id, name in self._names.items()}
                    self._names_seq = base.seq
                try:
                    self._learn_until(until)
                    return
                except RetentionError:
                    if log.base is base:
                        raise

    def _learn_until(self, until: int) -> None:
        """Follows the log from the names that are known to those of commit `until`."""
        self._keep_up()  # that commit may be in a segment of which the message waits
        for segment in segments_between(self._log, self._names_seq, until):
            found = self._indexes.of(segment, until)
            index, data = found.index, found.data
            first, last = max(self._names_seq, segment.base_seq) + 1, min(until, index.seq)
            at = index.next_commit(data, first, last, None, DESCRIBING) if first <= last else None
            while at is not None:
                for change in index.frame(data, at, found.sources, self).changes():
                    self._learn(change)
                at = index.next_commit(data, at + 1, last, None, DESCRIBING) if at < last else None
            self._names_seq = max(self._names_seq, last)

    def _learn(self, change: Any) -> None:
        page_id, kind = change.page_id, change.kind
        if kind in ("create", "rename", "delete"):
            old = self._names.pop(page_id, None)
            if old is not None and self._ids.get(old) == page_id:
                del self._ids[old]
            if kind != "delete" and change.text:
                self._names[page_id] = change.text
                self._ids[change.text] = page_id
        if kind == "delete":
            self._notes.pop(page_id, None)
        elif kind in ("create", "metadata") and change.blob is not None:
            self._notes[page_id] = change.blob

    def _known_ids(self) -> dict[str, int]:
        """A copy of the ids by name."""
        self._learn_names()
        return dict(self._ids)

    def _name_of(self, page_id: int) -> str | None:
        self._learn_names()
        return self._names.get(page_id)

    def _notes_of(self, page_id: int) -> bytes | None:
        self._learn_names()
        return self._notes.get(page_id)

    def _went(self, number: int) -> None:
        """The owner is about to drop a segment of its log: what it says of names is learnt before."""
        self._learn_names()
        self._log.went(number)

    # ---- the log

    @property
    def _log(self) -> Any:
        log = self._shared_log
        while log is None or log.reader is not self._reader:
            with self._lock:
                if self._shared_log is None or self._shared_log.reader is not self._reader:
                    self._shared_log = self._make_log()
                log = self._shared_log
        return log

    def _make_log(self) -> Any:
        self._check_open()
        files, path = Files(), self.path
        log: Any
        numbers = sorted(number for kind, number in self._reader.regions if kind == LOG)
        if path is None:
            log = SharedMemoryLog(self, files)
        else:
            from mmsb.checkpoints import Checkpoints

            self._store = ReadStore(files, path, lock=False)
            self._checkpoints = Checkpoints(self._store, files, None)
            log = SharedFileLog(self, self._store, files)
            log.find_older(numbers[0])
        for number in numbers:
            log.came(self._reader.region(LOG, number))
        self._connection.came = log.came
        return log

    def at(self, when: int | str | datetime) -> PastState:
        """The State as it was: at a seq, at the newest commit with a label, or at an aware datetime; see State.at."""
        from mmsb.past import at

        self._keep_up()
        return at(self, when)  # type: ignore[arg-type]

    def log(self, **filters: Any) -> Iterator[Commit]:
        """Iterates commits lazily, oldest first; see State.log."""
        from mmsb.history import log

        self._keep_up()
        return log(self, **filters)  # type: ignore[arg-type]

    def diff(self, a: int | str | datetime, b: int | str | datetime) -> Iterator[Any]:
        """Iterates what differs between two states of the past; see State.diff."""
        from mmsb.history import diff

        self._keep_up()
        return diff(self, a, b)  # type: ignore[arg-type]

    def last_write(self, page: Any, at: int = 0, length: int = 1, before: int | None = None) -> Any:
        """The newest Delta that wrote any of these bytes; see State.last_write."""
        from mmsb.history import last_write

        self._keep_up()
        return last_write(self, page, at=at, length=length, before=before)  # type: ignore[arg-type]

    def follow(self, since: int | None = None, *, timeout: float | None = None) -> Follower:
        """Iterates commits as they come, from seq `since` on (default: the next one), with `for` or `async for`; see
        mmsb.history.Commit.

        It ends when none comes for `timeout` seconds (None: never), and when the view is closed. OwnerGoneError after
        the last commit of an owner that is gone. RetentionError where `since` is no longer kept.
        """
        self._check_open()
        return Follower(self, self.seq + 1 if since is None else since, timeout)

    def subscribe(
        self,
        kinds: str | Iterable[str],
        handler: Callable[[Any], object] | None = None,
        *,
        pages: Iterable[int | str | ViewPage] | int | str | ViewPage | None = None,
        source: str | None = None,
        since: int | None = None,
        backlog: int | None = None,
        timeout: float | None = None,
    ) -> Subscription:
        """Events of these kinds (one or several of mmsb.events.KINDS), in the order of the commits, from seq `since` on
        (default: the next one).

        With a handler, `handler(event)` is called in a thread of the view; what it raises is counted. Without one,
        iterate the Subscription with `for` or `async for`; it ends when no event comes for `timeout` seconds.
        pages: only events of these pages (ids, names or pages, as they are now called). source: only events of commits
        with that source. backlog: when more commits than that are waiting, all but the newest are skipped. Skipped
        commits, and those that are no longer kept, are told as one mmsb.events.Missed, whatever the filters. ValueError
        for an unknown kind and one of which the log does not tell, TypeError, PageNotFoundError; RetentionError for
        kinds about edges where history begins with edges that only the owner knows.
        """
        self._check_open()
        return self._listeners.subscribe(self, kinds, handler, pages, source, since, backlog, timeout)

    def wait(self, seq: int, timeout: float | None = None) -> bool:
        """Waits until commit `seq` is there. Whether it is; OwnerGoneError when it will never be."""
        seconds = seconds_of(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.seq < seq:
            if self._reader.gone:
                raise self._gone()
            place = self._reader.place()
            left = SLICE_SECONDS if deadline is None else min(SLICE_SECONDS, deadline - time.monotonic())
            if left <= 0:
                return False
            if self.seq < seq:
                place.wait(left)
        return True

    def _keep_up(self) -> None:
        self._check_open()
        if self._reader.behind:
            self._connection.take()

    def _gone(self) -> OwnerGoneError:
        return OwnerGoneError(
            f"The owner of {self._target!r} (process {self.owner_pid}) is gone. What it published stays readable; find "
            "its successor with view.reattach().",
            target=self._target,
        )

    @property
    def _lock(self) -> threading.RLock:  # type: ignore[valid-type]
        """One thread takes messages, learns names or changes the log."""
        return self._connection.lock

    # ---- what the past needs of a State

    @contextmanager
    def _exclusive(self) -> Iterator[View]:
        with self._lock:
            yield self

    def _check_open(self) -> None:
        if self._reader.closed:
            self._reader.refuse()

    def _has_page(self, page_id: int) -> bool:
        """Pages move on while one looks: what one was at a seq is for the log to say."""
        return False

    @property
    def next_page_id(self) -> int:
        """The id that the next page gets."""
        return int(self.at(self.seq).next_page_id)

    def scratch(self) -> Core:
        """An empty core without a log: a place to rebuild pages of the past in."""
        core = Core()
        core._start(Files(), private=True)
        return core

    def _page_history(self, page_id: int, since_epoch: int = 0) -> Iterator[Any]:
        from mmsb.history import page_history

        self._keep_up()
        return page_history(self, page_id, since_epoch=since_epoch, until=self.seq)  # type: ignore[arg-type]

    def _page_at_epoch(self, page_id: int, epoch: int) -> Any:
        from mmsb.history import page_at_epoch

        self._keep_up()
        return page_at_epoch(self, page_id, epoch)  # type: ignore[arg-type]

    def _epoch_of_delta(self, delta: Any) -> int:
        from mmsb.history import epoch_of_delta

        return epoch_of_delta(self, delta)  # type: ignore[arg-type]

    # ---- life

    def reattach(self, timeout: float = 5.0) -> None:
        """Attaches to the owner there is now, which may be another process. Handles of pages stay good.

        OwnerGoneError when nobody serves the State; then the view stays as it was.
        """
        connection = Connection(self._key, self._target, timeout)
        old = self._connection
        self._begin(connection)
        if not old.ended or not old.reader or not old.reader.closed:
            old.close(forked=bool(old.reader and old.reader.closed))
        self._listeners.look_again()
        _open_views.add(self)

    def stats(self) -> dict[str, Any]:
        """Facts and counters of this end."""
        self._check_open()
        regions = list(self._reader.regions.values())
        client = self._connection.client
        ring = None if client is None else client.ring
        return {
            "seq": self.seq,
            "owner_pid": self.owner_pid,
            "owner_alive": self.owner_alive,
            "regions": len(regions),
            "mapped_bytes": sum(map(len, regions)),
            "messages": self._reader.grown,
            "named_pages": len(self._names),
            "events": self._listeners.stats(self.seq),
            "ring": None if ring is None else {"sent": ring.number, "acknowledged": ring.acknowledged},
        }

    def close(self) -> None:
        """Detaches. Live arrays stay valid. May be called again."""
        if not self._reader.closed:
            self._connection.close()
            self._listeners.close()
            self._waker.end()

    def _forked(self) -> None:
        self._connection.close(forked=True)
        self._listeners.close(forked=True)
        self._listeners, self._waker = Listeners(self), Waker(self)

    def __enter__(self) -> View:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._reader.closed:
            return "<View closed>"
        return f"<View {self._target!r} seq={self.seq} owner={self.owner_pid}>"
