"""PastPage: one page of a PastState or a Stepper, read like a Page."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn

from mmsb._core.errors import no_pointers
from mmsb.errors import PageRangeError, ReadOnlyError

if TYPE_CHECKING:
    from mmsb._core.delta import Delta


def byte_range(page: PastPage, at: Any, length: Any) -> tuple[int, int]:
    """(first, end) of a range given as to Page.read. PageRangeError when it leaves the page."""
    first = operator.index(at)
    end = page.size if length is None else first + operator.index(length)
    if not 0 <= first <= end <= page.size:
        raise PageRangeError(
            f"Bytes {first} to {end} lie outside page {page.page_id} of {page.size} bytes. Read inside the page.",
            page_id=page.page_id,
            at=first,
            length=end - first,
            size=page.size,
        )
    return first, end


class PastPage:
    """A read-only page. `state` is what it belongs to: a PastState, or a Stepper (then it moves with it)."""

    __slots__ = ("page_id", "state")

    def __init__(self, state: Any, page_id: int) -> None:
        self.state = state
        self.page_id = page_id

    @property
    def id(self) -> int:
        """The page's id."""
        return self.page_id

    @property
    def name(self) -> str | None:
        """The page's name at that time, or None."""
        name: str | None = self.state._page_name(self.page_id)
        return name

    @property
    def size(self) -> int:
        """Bytes of the page."""
        return int(self.state._page_info(self.page_id)[0])

    @property
    def epoch(self) -> int:
        """How often its bytes or size had been changed."""
        return int(self.state._page_info(self.page_id)[1])

    @property
    def location(self) -> str:
        """Where the bytes are: "cpu"."""
        return "cpu"

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Read-only mapping of str to bytes, str, int, float or bool."""
        notes: Mapping[str, Any] = self.state._metadata_of(self.page_id)
        return notes

    def read(self, at: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `at` on (default: to the end). PageRangeError outside the page."""
        if at == 0 and length is None:
            return bytes(self.state._page_bytes(self.page_id))
        first, end = byte_range(self, at, length)
        return bytes(self.state._page_bytes(self.page_id)[first:end])

    def read_into(self, buffer: Any, at: int = 0) -> int:
        """Fills a writable contiguous buffer with the bytes from `at` on. Returns their number."""
        no_pointers(buffer)
        view = memoryview(buffer).cast("B")
        first, end = byte_range(self, at, view.nbytes)
        view[:] = self.state._page_bytes(self.page_id)[first:end]
        return view.nbytes

    def view(self, dtype: Any = "uint8", shape: Any = None) -> Any:
        """A read-only ndarray of the bytes at that time (dtype native, `shape` given or flat)."""
        import numpy

        array = numpy.frombuffer(bytes(self.state._page_bytes(self.page_id)), dtype)
        return array if shape is None else array.reshape(shape)

    def history(self) -> Iterator[Delta]:
        """Iterates the page's deltas up to that time, oldest first."""
        seq = self.state.seq
        return takewhile(lambda delta: delta.seq <= seq, self.state.state._page_history(self.page_id))

    def at(self, epoch: int) -> PastPage:
        """The page as it was at an epoch; see Page.at."""
        page: PastPage = self.state.state._page_at_epoch(self.page_id, epoch)
        return page

    def __getitem__(self, key: int | slice) -> Any:
        """page[i:j] gives bytes, page[i] one byte as int."""
        content = self.state._page_bytes(self.page_id)
        if isinstance(key, slice):
            return bytes(content[key])
        index = operator.index(key)
        if not -len(content) <= index < len(content):
            raise PageRangeError(
                f"Byte {key} lies outside page {self.page_id} of {len(content)} bytes. Use 0 to size - 1.",
                page_id=self.page_id,
                at=key,
                length=1,
                size=len(content),
            )
        return content[index]

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return self.read()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """The past cannot be changed: ReadOnlyError."""
        raise ReadOnlyError(f"This is page {self.page_id} as it was at seq {self.state.seq}. Change the page itself.")

    write = assign = edit = update = resize = rename = clone = delete = _refuse

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PastPage) and self.state is other.state and self.page_id == other.page_id

    def __hash__(self) -> int:
        return hash(self.page_id)

    def __repr__(self) -> str:
        return f"<PastPage {self.page_id} seq={self.state.seq}>"
