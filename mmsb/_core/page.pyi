from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from mmsb._core.delta import Delta

PAGE_ID_MOST: int

class Slot: ...

class Page:
    state: Any
    page_id: int
    id: int
    name: str | None
    size: int
    epoch: int
    location: str
    metadata: Any
    merge: tuple[str, str] | None
    @staticmethod
    def _of(state: Any, page_id: int) -> Page: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: Any) -> Any: ...
    def __bytes__(self) -> bytes: ...
    def read(self, at: int = 0, length: int | None = None) -> bytes: ...
    def read_into(self, buffer: Any, at: int = 0) -> int: ...
    def view(self, dtype: Any = "uint8", shape: Any = None) -> Any: ...
    def write(
        self,
        data: Any,
        at: int = 0,
        source: str | None = None,
        intent: Mapping[str, Any] | None = None,
        if_epoch: int | None = None,
        rebase: bool = False,
        *,
        propagate: bool = True,
    ) -> Delta | None: ...
    def assign(
        self, data: Any, at: int = 0, source: str | None = None, intent: Mapping[str, Any] | None = None
    ) -> Delta | None: ...
    def edit(
        self,
        dtype: Any = None,
        shape: Any = None,
        source: str | None = None,
        intent: Mapping[str, Any] | None = None,
    ) -> AbstractContextManager[Any]: ...
    def update(
        self,
        new: Any,
        when: Callable[[bytes], bool] | None = None,
        source: str | None = None,
        intent: Mapping[str, Any] | None = None,
    ) -> Delta | None: ...
    def resize(self, size: int, source: str | None = None) -> None: ...
    def rename(self, name: str | None, source: str | None = None) -> None: ...
    def clone(self, name: str | None = None, source: str | None = None) -> Page: ...
    def delete(self, source: str | None = None) -> None: ...
    def history(self) -> Iterator[Delta]: ...
    def at(self, epoch: int) -> Any: ...
