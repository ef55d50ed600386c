"""The slow, literal State: pages are lists of ints, commits are lists of changes, the past is replayed from the start.

Every engine test compares with it. No tricks, no numpy, nothing shared with the engine.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any


class ModelPage:
    """One page: its bytes (list of 0..255), epoch, name and metadata."""

    def __init__(self, data: list[int], name: str | None, metadata: dict[str, Any]) -> None:
        self.data = data
        self.epoch = 0
        self.name = name
        self.metadata = metadata


class Model:
    """A State without a log format: `history[seq]` is a copy of all pages after commit `seq`."""

    def __init__(self) -> None:
        self.pages: dict[int, ModelPage] = {}
        self.next_page_id = 1
        self.history: list[dict[int, ModelPage]] = [{}]
        self.labels: dict[str, int] = {}

    @property
    def seq(self) -> int:
        """Number of commits so far."""
        return len(self.history) - 1

    def commit(self, label: str | None = None) -> int:
        """Ends a commit: remembers the pages as they are now."""
        self.history.append(deepcopy(self.pages))
        if label is not None:
            self.labels[label] = self.seq
        return self.seq

    def create(self, size: int, data: bytes = b"", name: str | None = None, metadata: Any = None) -> int:
        """Adds a page. Does not commit."""
        page_id = self.next_page_id
        self.next_page_id += 1
        self.pages[page_id] = ModelPage(list(data) + [0] * (size - len(data)), name, dict(metadata or {}))
        return page_id

    def write(self, page_id: int, at: int, data: bytes) -> bool:
        """Puts bytes; True when any changed (then the epoch rose). Does not commit."""
        page = self.pages[page_id]
        changed = False
        for index, value in enumerate(data):
            if page.data[at + index] != value:
                page.data[at + index] = value
                changed = True
        if changed:
            page.epoch += 1
        return changed

    def resize(self, page_id: int, size: int) -> None:
        """Cuts or extends a page with zeros. Does not commit."""
        page = self.pages[page_id]
        page.data = page.data[:size] + [0] * (size - len(page.data))
        page.epoch += 1

    def delete(self, page_id: int) -> None:
        """Removes a page. Does not commit."""
        del self.pages[page_id]

    def at(self, seq: int) -> dict[int, ModelPage]:
        """The pages as they were after commit `seq`."""
        return self.history[seq]


def picture(pages: dict[int, ModelPage]) -> dict[int, tuple[bytes, int, str | None, dict[str, Any]]]:
    """All that a State promises about its pages, as plain values to compare."""
    return {
        page_id: (bytes(page.data), page.epoch, page.name, page.metadata) for page_id, page in sorted(pages.items())
    }


def picture_of(state: Any) -> dict[int, tuple[bytes, int, str | None, dict[str, Any]]]:
    """The same of a State, a PastState or a Stepper."""
    return {page.page_id: (page.read(), page.epoch, page.name, dict(page.metadata)) for page in state.pages()}
