"""The loopback device: host memory in disguise. It proves the seam on machines that have no other device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmsb.errors import DeviceBufferError, PageRangeError, PageSizeError
from mmsb.plugin import DeviceBackendSpec, hookimpl

if TYPE_CHECKING:
    from mmsb._core.delta import Delta

MMSB_API = 1


class Loopback:
    """A device backend whose buffers are bytearrays and whose handles are numbers, never used twice."""

    def __init__(self) -> None:
        self._buffers: dict[int, bytearray] = {}
        self._last = 0

    def can_run(self, op: str) -> bool | str:
        """Only deltas are applied here."""
        return op == "apply_delta" or f"the loopback device has no {op}"

    def should_run(self, op: str, nbytes: int) -> bool | str:
        """Never: the host does the same without a copy."""
        return "the loopback device is no faster than the host"

    def allocate(self, nbytes: int) -> int:
        """The number of a new buffer of zeros."""
        if nbytes < 1:
            raise PageSizeError(f"A buffer of {nbytes} bytes cannot be made. Ask for at least 1.", size=nbytes)
        self._last += 1
        self._buffers[self._last] = bytearray(nbytes)
        return self._last

    def free(self, buffer: int) -> None:
        """Forgets a buffer."""
        self._of(buffer)
        del self._buffers[buffer]

    def upload(self, buffer: int, data: Any, at: int = 0) -> None:
        """Copies bytes in."""
        given = memoryview(data).cast("B")
        self._part(buffer, at, len(given))[:] = given

    def download(self, buffer: int, out: Any, at: int = 0) -> None:
        """Copies bytes out."""
        wanted = memoryview(out).cast("B")
        wanted[:] = self._part(buffer, at, len(wanted))

    def apply_delta(self, buffer: int, delta: Delta) -> None:
        """Applies a delta with the host's kernels."""
        delta.apply_to(self._of(buffer))

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    def _of(self, buffer: int) -> bytearray:
        found = self._buffers.get(buffer)
        if found is None:
            raise DeviceBufferError(f"{buffer!r} is no buffer of this device. Allocate one.", buffer=buffer)
        return found

    def _part(self, buffer: int, at: int, length: int) -> memoryview:
        whole = self._of(buffer)
        if at < 0 or at + length > len(whole):
            message = f"Bytes {at} to {at + length} are not all in a buffer of {len(whole)}. Stay inside it."
            raise PageRangeError(message, at=at, length=length, size=len(whole))
        return memoryview(whole)[at : at + length]


@hookimpl
def mmsb_devices() -> list[DeviceBackendSpec]:
    """The loopback device."""
    return [DeviceBackendSpec("loopback", "Host memory in disguise, for tests of the device seam.", Loopback)]
