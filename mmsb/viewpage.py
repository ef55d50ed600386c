"""ViewPage: one page of a View. Every read is one consistent copy."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mmsb import metadata
from mmsb._core.reader import STALE, PageReader
from mmsb.errors import BusyError, MMSBError, PageRangeError, StalePageError

if TYPE_CHECKING:
    from mmsb._core.delta import Delta
    from mmsb._core.ring import Completion
    from mmsb.view import View

SLICE_ATTEMPTS = 4


class ViewPage(PageReader):
    """A page of another process. Handles are cheap; two handles of one page are equal.

    What is read is as after one commit, whatever the owner does meanwhile; what is to change, the owner is asked for.
    `state` is the View that it belongs to.
    """

    __slots__ = ()
    state: View

    @property
    def id(self) -> int:
        """The page's id."""
        return self.page_id

    @property
    def name(self) -> str | None:
        """The page's name, or None."""
        self.state._reader.facts(self.page_id)
        return self.state._name_of(self.page_id)

    @property
    def size(self) -> int:
        """Bytes of the page."""
        size: int = self.state._reader.facts(self.page_id)[0]
        return size

    @property
    def epoch(self) -> int:
        """Rises by 1 with every delta and resize; 0 after creation."""
        return self.state._epoch_of(self.page_id)

    @property
    def location(self) -> str:
        """Where the bytes are: "cpu"."""
        self.state._reader.facts(self.page_id)
        return "cpu"

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Read-only mapping of str to bytes, str, int, float or bool."""
        self.state._reader.facts(self.page_id)
        notes: Mapping[str, Any] = metadata.frozen(self.state._notes_of(self.page_id))
        return notes

    @metadata.setter
    def metadata(self, value: Mapping[str, Any] | None) -> None:
        self.state.client.set_metadata(self.page_id, value)

    @property
    def stale(self) -> bool:
        """True when the page is computed from others and not up to date with them; reading it then raises."""
        return bool(self.state._reader.facts(self.page_id)[2] & STALE)

    # ---- reading

    def check_fresh(self, flags: int) -> None:
        """StalePageError for a page that is not up to date, unless the view reads such pages."""
        if flags & STALE and not self.state.stale_reads:
            raise StalePageError(
                f"Page {self.page_id} is not up to date with what it depends on. Let the owner propagate, or set "
                "view.stale_reads.",
                page_id=self.page_id,
                reason="its owner has not computed it yet",
            )

    def outside(self, at: int, length: int, size: int) -> PageRangeError:
        """The error of a range that leaves the page."""
        return PageRangeError(
            f"Bytes {at} to {at + length} lie outside page {self.page_id} of {size} bytes. Read inside the page.",
            page_id=self.page_id,
            at=at,
            length=length,
            size=size,
        )

    def read_carefully(self, at: int = 0, length: int | None = None) -> bytes:
        """As read(), of a page that may be anything."""
        first, count = operator.index(at), None if length is None else operator.index(length)
        if first < 0 or (count is not None and count < 0) or first >> 62 or (count or 0) >> 62:
            raise self.outside(first, count or 0, self.size)
        data: bytes
        try:
            data, size, flags = self.state._reader.bytes(self.page_id, first, count)
        except BusyError:  # its place changed too often; what the log says of it stays
            return bytes(self.state.at(self.state.seq).page(self.page_id).read(first, count))
        if first > size or (count is not None and len(data) < count):
            raise self.outside(first, count or 0, size)
        self.check_fresh(flags)
        return data

    def read_into_carefully(self, buffer: Any, at: int = 0) -> int:
        """As read_into(), of a page and a buffer that may be anything."""
        first = operator.index(at)
        if first < 0 or first >> 62:
            raise self.outside(first, 0, self.size)
        wanted: int
        wanted, found, size, flags = self.state._reader.into(self.page_id, first, buffer)
        if found < wanted or first > size:
            raise self.outside(first, wanted, size)
        self.check_fresh(flags)
        return wanted

    def __getitem__(self, key: int | slice) -> Any:
        """page[i:j] copies bytes (bytes); page[i] is one byte (int). Slices clip as those of bytes do."""
        if not isinstance(key, slice):
            index = operator.index(key)
            size = self.size
            at = index + size if index < 0 else index
            if not 0 <= at < size:
                raise self.outside(index, 1, size)
            return self.read_carefully(at, 1)[0]
        size = self.size
        for _ in range(SLICE_ATTEMPTS):
            start, stop, step = key.indices(size)
            if step != 1:
                break
            data, now, flags = self.state._reader.bytes(self.page_id, start, max(0, stop - start))
            if now == size:
                self.check_fresh(flags)
                return data
            size = now  # it was resized in between: the slice means other bytes
        return self.read()[key]

    def __bytes__(self) -> bytes:
        data: bytes = self.read()
        return data

    def __len__(self) -> int:
        return self.size

    def view(self, dtype: Any = "uint8", shape: Any = None) -> Any:
        """Read-only ndarray on the owner's own memory, without a copy (dtype native, `shape` given or flat).

        It is live: it shows later changes, also half of one. Once the page is resized or deleted it means nothing: the
        memory may go to another page. ValueError when the size is no multiple of the dtype's.
        """
        import numpy

        self.check_fresh(self.state._reader.facts(self.page_id)[2])
        array = numpy.frombuffer(self.state._reader.slot(self.page_id), dtype)
        return array if shape is None else array.reshape(shape)

    # ---- changing, which the owner does: each call returns once it is done, see mmsb.commands.Client

    def write(self, data: Any, *args: Any, **rest: Any) -> Completion:
        """As Page.write; also `durability` and `timeout`. Its Completion has `seq` (None: nothing changed), `epoch`."""
        return self.state.client.write(self.page_id, data, *args, **rest)

    def assign(self, data: Any, at: int = 0, **rest: Any) -> Completion:
        """As Page.assign."""
        return self.state.client.assign(self.page_id, data, at, **rest)

    def resize(self, size: int, **rest: Any) -> Completion:
        """As Page.resize."""
        return self.state.client.resize(self.page_id, size, **rest)

    def rename(self, name: str | None, **rest: Any) -> Completion:
        """As Page.rename."""
        return self.state.client.rename(self.page_id, name, **rest)

    def delete(self, **rest: Any) -> Completion:
        """As Page.delete."""
        return self.state.client.delete_page(self.page_id, **rest)

    # ---- the past

    def history(self) -> Iterator[Delta]:
        """Iterates the page's deltas up to now, oldest first (lazily)."""
        return self.state._page_history(self.page_id)

    def at(self, epoch: int) -> Any:
        """The page as it was at an epoch: a read-only past page."""
        return self.state._page_at_epoch(self.page_id, epoch)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ViewPage) and self.state is other.state and self.page_id == other.page_id

    def __hash__(self) -> int:
        return hash(self.page_id)

    def __repr__(self) -> str:
        try:
            return f"<ViewPage {self.page_id} {self.name!r} size={self.size}>"
        except MMSBError as error:
            return f"<ViewPage {self.page_id}: {type(error).__name__}>"
