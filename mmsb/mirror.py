"""A copy of a page in a buffer of a device that follows the page. docs/understand/events.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmsb.plugin.manager import installed

if TYPE_CHECKING:
    from mmsb._core.page import Page
    from mmsb.plugin.protocols import DeviceBackend
    from mmsb.state import State


class Mirror:
    """Keeps `page` of a State in `buffer` of a device: whole at first, delta by delta from then on.

    Each time the copy has caught up, subscribers are told "device_sync_done". The device is synchronized then. close()
    gives the buffer back. `device`: the name of one that is built in or that a plugin brings, which is opened for
    this mirror, or an open one. Errors as of DeviceBackend and State.page; PluginError for a name that leads nowhere.
    """

    def __init__(self, state: State, page: int | str | Page, device: DeviceBackend | str) -> None:
        self.state = state
        self.page_id = state.page_id_of(page)
        self.device = installed().find("devices", device).make() if isinstance(device, str) else device
        self.buffer: Any = None
        self.seq = 0  # the commit at which the copy stands
        with state._exclusive():
            self.subscription = state.subscribe(("delta_applied", "page_changed"), self._follow, pages=[self.page_id])
            try:
                self._upload()
            except BaseException:
                self.subscription.close()  # what has no copy follows nothing
                raise

    def _upload(self) -> None:
        with self.state._exclusive():
            content = self.state._page_bytes(self.page_id)
            if self.buffer is not None:
                self.device.free(self.buffer)
            self.buffer = self.device.allocate(len(content))
            self.device.upload(self.buffer, content)
            self.device.synchronize()
            self.seq = self.state.seq

    def _follow(self, event: Any) -> None:
        if event.seq <= self.seq:
            return  # it was in what was uploaded
        if event.kind == "delta_applied":
            self.device.apply_delta(self.buffer, event.delta)
            return
        # The last event of a commit that changed the page.
        if "size" in event.what:
            self._upload()
        else:
            self.device.synchronize()
            self.seq = event.seq
        self.state._announce("device_sync_done", self.seq, self.page_id)

    def close(self) -> None:
        """Follows no more, and gives the buffer back."""
        self.subscription.close()
        if self.buffer is not None:
            self.device.free(self.buffer)
            self.buffer = None

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
