"""The client's side of a command ring: what another process may ask of the owner. docs/understand/commands.md."""

from __future__ import annotations

import operator
import os
import struct
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from mmsb import failures
from mmsb._core.delta import Delta
from mmsb._core.ring import CREATED, DETACH, IF_EPOCH, KINDS, NO_WAVE, REBASE, RULE_MAX, Completion, RingClient
from mmsb.arguments import column, encode_metadata, encode_name, page_size
from mmsb.errors import PageNotFoundError, PageRangeError
from mmsb.metadata import encode as encode_intent

HEAD = struct.Struct("<IBBBBQQQQHHI")  # mmsb_command_head
EPOCH_MOST = (1 << 64) - 2
DURABILITIES = {None: 0, "none": 0, "process": 1, "group": 2, "power": 3}
_CLIENTS: weakref.WeakSet[RingClient] = weakref.WeakSet()


def _disown() -> None:
    for client in list(_CLIENTS):
        client.disown("it was made before fork() and belongs to the parent process")


os.register_at_fork(after_in_child=_disown)


def _durability(value: str | None) -> int:
    try:
        return DURABILITIES[value]
    except KeyError:
        raise ValueError(f"Unknown durability {value!r}. Use 'process', 'group' or 'power'.") from None


def _intent(value: Mapping[str, Any] | bytes | None) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else encode_intent(value)


def _bytes(data: Any) -> bytes:
    return data if type(data) is bytes else memoryview(data).tobytes()


def _offset(at: Any) -> int:
    """A byte offset. One that no page has becomes the largest that can be said, for the owner to refuse."""
    number = operator.index(at)
    if number < 0:
        raise PageRangeError(
            f"Offset {number} is negative. Count bytes from 0 at the start of the page.",
            page_id=None,
            at=number,
            length=None,
            size=None,
        )
    return min(number, (1 << 64) - 1)


def _epoch(if_epoch: Any) -> int:
    """An expected epoch. One that no page can have matches none."""
    if isinstance(if_epoch, bool) or not hasattr(if_epoch, "__index__"):
        raise TypeError(f"if_epoch is an int or None, not {type(if_epoch).__name__}")
    number: int = if_epoch.__index__()
    return number if 0 <= number < EPOCH_MOST else EPOCH_MOST


class NewPage:
    """A page that a batch creates, to be used in the rest of it. `page_id` is its id, None until it is committed."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.page_id: int | None = None


class _Parts:
    """The changes that there are, as the parts of a command; `_send` makes one of them."""

    _names: Callable[[str], int] | None

    def _page(self, page: Any) -> int:
        """The id of a page given by id, by name or as something with a page_id."""
        if isinstance(page, str):
            if self._names is None:
                raise TypeError("This client knows no names of pages. Give an id.")
            return self._names(page)
        found = getattr(page, "page_id", page)
        if isinstance(found, bool) or not hasattr(found, "__index__"):
            raise TypeError(f"a page is given by its id, its name or a Page, not by {type(page).__name__}")
        number: int = found.__index__()
        if not 1 <= number < CREATED:
            raise PageNotFoundError(
                f"No page has the id {number}. Look at state.pages() for the pages there are.", page=number
            )
        return number

    def _send(self, *args: Any, **parts: Any) -> Any:
        raise NotImplementedError

    def assign(self, page: Any, data: Any, at: int = 0, **rest: Any) -> Any:
        """As Page.assign."""
        return self._send("assign", page=self._page(page), at=_offset(at), data=data, **rest)

    def apply(self, delta: Delta, if_epoch: int | None = None, rebase: bool = False, **rest: Any) -> Any:
        """As State.apply."""
        if not isinstance(delta, Delta):
            raise TypeError(f"apply() takes a Delta, not {type(delta).__name__}")
        return self._send(
            "apply",
            page=delta.page_id,
            if_epoch=if_epoch,
            flags=REBASE if rebase else 0,
            code=delta.code,
            data=delta.payload,
            **rest,
        )

    def create_page(
        self,
        size: int | None = None,
        name: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        data: Any = None,
        merge: str | None = None,
        dtype: Any = None,
        **rest: Any,
    ) -> Any:
        """As State.create_page; `dtype` is a name, like "float64"."""
        content = b"" if data is None else _bytes(data)
        bytes_of_page = page_size(len(content) if size is None and data is not None else size)
        if (merge is None) != (dtype is None):
            raise TypeError("a merge page needs both merge= and dtype=, like merge='max-plus', dtype='float64'")
        encoded = b"" if name is None else encode_name(name)
        rule = b"" if merge is None else f"{merge} {dtype}".encode()
        notes = encode_metadata(metadata) or b""
        if len(rule) > RULE_MAX:
            raise ValueError("The names of semiring and dtype are too long. Check them.")
        lengths = len(encoded) | len(rule) << 20 | len(notes) << 32
        return self._send("create", at=bytes_of_page, count=lengths, front=encoded + rule + notes, data=content, **rest)

    def create_pages(self, count: int, size: int, **rest: Any) -> Any:
        """As State.create_pages."""
        return self._send("create_many", at=page_size(size), count=count, **rest)

    def delete_page(self, page: Any, *, detach: bool = False, **rest: Any) -> Any:
        """As State.delete_page."""
        return self._send("delete", page=self._page(page), flags=DETACH if detach else 0, **rest)

    def resize(self, page: Any, size: int, **rest: Any) -> Any:
        """As Page.resize."""
        return self._send("resize", page=self._page(page), at=page_size(size), **rest)

    def rename(self, page: Any, name: str | None, **rest: Any) -> Any:
        """As Page.rename."""
        return self._send("rename", page=self._page(page), data=b"" if name is None else encode_name(name), **rest)

    def set_metadata(self, page: Any, value: Mapping[str, Any] | None, **rest: Any) -> Any:
        """As State.set_metadata."""
        return self._send("metadata", page=self._page(page), data=encode_metadata(value) or b"", **rest)


class CommandBatch(_Parts):
    """A batch that the owner commits as one, or refuses whole: gathered here, sent when the `with` block ends.

    Its methods are those of mmsb.Batch without the reads; create_page() and create_pages() give NewPages. Afterwards
    `seq` is the commit. CommandSizeError when it is longer than the ring takes; then nothing was sent.
    """

    def __init__(self, client: Client, label: str | None, **rest: Any) -> None:
        self.seq: int | None = None
        self._names = client._names
        self._client = client
        self._label = b"" if label is None else encode_name(label)
        self._rest = rest
        self._body = bytearray()
        self._count = 0
        self._created: list[NewPage] = []

    def _send(
        self,
        kind: str,
        *,
        page: int = 0,
        at: int = 0,
        count: int = 0,
        if_epoch: int | None = None,
        flags: int = 0,
        code: int = 0,
        front: bytes = b"",
        data: Any = b"",
        **rest: Any,
    ) -> None:
        if rest:
            raise TypeError(f"{', '.join(rest)}: say that of the batch, not of its parts")
        content = _bytes(data)
        if if_epoch is not None:
            count, flags = _epoch(if_epoch), flags | IF_EPOCH
        size = HEAD.size + len(front) + len(content)
        self._body += HEAD.pack(size, KINDS[kind], flags, 0, code, 0, page, at, count, 0, 0, 0)
        self._body += front
        self._body += content
        self._body += bytes(-len(self._body) % 8)
        self._count += 1

    def _page(self, page: Any) -> int:
        return CREATED | page.place if isinstance(page, NewPage) and page in self._created else super()._page(page)

    def write(self, page: Any, data: Any, at: int = 0, if_epoch: int | None = None, rebase: bool = False) -> None:
        """As Batch.write."""
        flags = REBASE if rebase else 0
        self._send("write", page=self._page(page), at=_offset(at), if_epoch=if_epoch, flags=flags, data=data)

    def write_many(self, ids: Any, offsets: Any, lengths: Any, payload: Any) -> None:
        """As Batch.write_many."""
        id_array = column(ids, "ids")
        count = len(id_array)
        arrays = (id_array, column(offsets, "offsets", count), column(lengths, "lengths", count))
        self._send("write_many", count=count, front=b"".join(array.tobytes() for array in arrays), data=payload)

    def _new_page(self) -> NewPage:
        self._created.append(NewPage(len(self._created)))
        return self._created[-1]

    def create_page(self, *args: Any, **kwargs: Any) -> NewPage:
        """As Batch.create_page."""
        super().create_page(*args, **kwargs)
        return self._new_page()

    def create_pages(self, count: int, size: int, **rest: Any) -> list[NewPage]:
        """As Batch.create_pages; the NewPages."""
        super().create_pages(count, size, **rest)
        return [self._new_page() for _ in range(count)]

    def submit(self) -> int:
        """Sends the batch without waiting for it. The number of the command."""
        label = self._label
        return self._client.submit._send(
            "batch", at=len(label), count=self._count, front=label, data=self._body, **self._rest
        )

    def commit(self) -> int | None:
        """Sends the batch and waits. Its seq; what the owner refuses is raised here."""
        completion = self._client.finish(self.submit())
        self.seq = completion.seq
        for page in self._created:
            page.page_id = completion.first_page + page.place
        return self.seq

    def __enter__(self) -> CommandBatch:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            self.commit()


class _Sender(_Parts):
    """Who sends changes one by one. `_write` does it."""

    _write: Callable[..., Any]

    def write(
        self,
        page: Any,
        data: Any,
        at: int = 0,
        source: str | None = None,
        intent: Any = None,
        if_epoch: int | None = None,
        rebase: bool = False,
        *,
        propagate: bool = True,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """As Page.write; `page` comes first."""
        if type(page) is not int or page < 1:
            page = self._page(page)
        flags = (REBASE if rebase else 0) | (0 if propagate else NO_WAVE)
        return self._write(
            page,
            data,
            at if type(at) is int and 0 <= at < EPOCH_MOST else _offset(at),
            source,
            None if intent is None else _intent(intent),
            None if if_epoch is None else _epoch(if_epoch),
            flags,
            0 if durability is None else _durability(durability),
            timeout,
        )


class Submitter(_Sender):
    """The same changes, sent without waiting: every method returns the number of its command, for Client.finish()."""

    def __init__(self, ring: RingClient, names: Callable[[str], int] | None) -> None:
        self._ring = ring
        self._names = names
        self._write = ring.submit_write

    def writes(
        self,
        ids: Any,
        offsets: Any,
        lengths: Any,
        payload: Any,
        *,
        source: str | None = None,
        timeout: float | None = None,
    ) -> range:
        """Many writes, each a commit of its own: the i-th puts the next lengths[i] bytes of `payload` at offsets[i] of
        page ids[i]. Their numbers. What becomes of them is told by Client.flush(), which raises the first failure.
        """
        id_array = column(ids, "ids")
        count = len(id_array)
        first, last = self._ring.submit_writes(
            id_array,
            column(offsets, "offsets", count),
            column(lengths, "lengths", count),
            memoryview(payload).cast("B"),
            source,
            timeout,
        )
        return range(first, last + 1)

    def _send(
        self,
        kind: str,
        *,
        page: int = 0,
        at: int = 0,
        count: int = 0,
        if_epoch: int | None = None,
        flags: int = 0,
        code: int = 0,
        front: bytes = b"",
        data: Any = b"",
        source: str | None = None,
        intent: Any = None,
        propagate: bool = True,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> int:
        if if_epoch is not None:
            count, flags = _epoch(if_epoch), flags | IF_EPOCH
        return self._ring.submit(
            KINDS[kind],
            page,
            at,
            count,
            flags=flags if propagate else flags | NO_WAVE,
            durability=_durability(durability),
            code=code,
            source=source,
            intent=_intent(intent),
            front=front,
            data=data,
            timeout=timeout,
        )


class Client(_Sender):
    """Sends commands to the owner of a State and waits for what becomes of them. `submit` does not wait.

    `ring`, `flag`, `bell`: the descriptors of the owner's RingSlot, which become this object's. `names`: the id of a
    page's name. Every method takes, beside what the local call takes, `durability` and `timeout` (seconds, default
    `client.ring.timeout`; 0: fail at once), raises what the local call raises, and returns a Completion (`seq` is None
    when nothing changed), create_page() and create_pages() ids. BusyError when it is not done in time, OwnerGoneError,
    RightsError, CommandSizeError. May be used by several threads, not after fork().
    """

    def __init__(self, ring: int, flag: int, bell: int, names: Callable[[str], int] | None = None) -> None:
        self.ring = RingClient(ring, flag, bell, failures.decode)
        self._names = names
        self._write = self.ring.write
        self.submit = Submitter(self.ring, names)
        _CLIENTS.add(self.ring)

    def finish(self, number: int, timeout: float | None = None) -> Completion:
        """Waits for a command that was submitted. Its Completion; raises what the owner refused it with."""
        completion = self.ring.wait(number, timeout)
        if completion is None:
            raise ValueError(
                f"Nothing was kept of command {number}. Ask for each command once, and use flush() for many."
            )
        return completion

    def flush(self, timeout: float | None = None) -> int:
        """Waits until everything submitted so far is done. The newest seq; raises the first failure that nobody asked
        for.
        """
        self.ring.settle(self.ring.number, timeout)
        for completion in self.ring.poll():
            if completion.failed:
                raise failures.decode(completion.facts)
        return self.ring.seq

    def _send(self, kind: str, timeout: float | None = None, **parts: Any) -> Completion:
        return self.finish(self.submit._send(kind, timeout=timeout, **parts), timeout)

    def create_page(self, *args: Any, **kwargs: Any) -> int:
        """As State.create_page. The id of the page."""
        page: int = super().create_page(*args, **kwargs).first_page
        return page

    def create_pages(self, count: int, size: int, **rest: Any) -> range:
        """As State.create_pages. The ids."""
        first = super().create_pages(count, size, **rest).first_page
        return range(first, first + count)

    def apply(self, delta: Delta, *args: Any, source: str | None = None, intent: Any = None, **rest: Any) -> Completion:
        """As State.apply: `source` and `intent` default to the delta's own."""
        note = intent if intent is not None else getattr(delta, "intent", None)
        who = source or getattr(delta, "source", None)
        completion: Completion = super().apply(delta, *args, source=who, intent=note, **rest)
        return completion

    def batch(
        self,
        *,
        source: str | None = None,
        label: str | None = None,
        intent: Any = None,
        durability: str | None = None,
        propagate: bool = True,
        timeout: float | None = None,
    ) -> CommandBatch:
        """A commit gathered by hand, as a context manager; see CommandBatch."""
        return CommandBatch(
            self, label, source=source, intent=intent, durability=durability, propagate=propagate, timeout=timeout
        )

    def close(self) -> None:
        """Ends the connection. What was sent is done all the same. May be called again."""
        self.ring.close()
