"""What a View can change, by asking the owner: the names of a State, through the ring of commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmsb.viewpage import ViewPage

if TYPE_CHECKING:
    from mmsb._core.delta import Delta
    from mmsb._core.ring import Completion
    from mmsb.commands import Client, CommandBatch
    from mmsb.connection import Connection


class Asking:
    """The changes of a View. Each returns once the owner has done it, or raises what the owner's own call raises."""

    _connection: Connection
    _timeout: float
    _ring_bytes: int

    @property
    def client(self) -> Client:
        """The client of the view's own ring, with all there is: changes that are not waited for (`client.submit`),
        `client.flush()`, many writes at once. It is made with the first use, and again after reattach(). RightsError
        when the owner takes no commands, OwnerGoneError, BusyError.
        """
        self._check_open()
        connection = self._connection
        if connection.ended:
            raise self._gone()
        client = connection.client
        if client is None:
            client = connection.ask_ring(self._ring_bytes, self._timeout, self.page_id_of)
        return client

    def _check_open(self) -> None:
        raise NotImplementedError

    def _gone(self) -> Exception:
        raise NotImplementedError

    def page_id_of(self, page: Any) -> int:
        """The id of a page."""
        raise NotImplementedError

    def batch(self, **rest: Any) -> CommandBatch:
        """A commit gathered by hand, as a context manager; see Client.batch."""
        return self.client.batch(**rest)

    def apply(self, delta: Delta, *args: Any, **rest: Any) -> Completion:
        """As State.apply."""
        return self.client.apply(delta, *args, **rest)

    def create_page(self, *args: Any, **rest: Any) -> ViewPage:
        """As State.create_page."""
        return ViewPage(self, self.client.create_page(*args, **rest))

    def create_pages(self, count: int, size: int, **rest: Any) -> range:
        """As State.create_pages."""
        return self.client.create_pages(count, size, **rest)

    def delete_page(self, page: Any, **rest: Any) -> Completion:
        """As State.delete_page."""
        return self.client.delete_page(page, **rest)

    def set_metadata(self, page: Any, value: Mapping[str, Any] | None, **rest: Any) -> Completion:
        """As State.set_metadata."""
        return self.client.set_metadata(page, value, **rest)
