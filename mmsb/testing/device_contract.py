"""What every device backend must pass.

In a plugin's tests:

    class TestMyDevice(DeviceContract):
        def make(self):
            return MyDevice()
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from mmsb._core.delta import Delta
from mmsb.errors import DeviceBufferError, InvalidDeltaError, PageRangeError, PageSizeError
from mmsb.plugin import DeviceBackend

SIZES = (1, 2, 63, 64, 65, 1000, 4096, 70_001)


class DeviceContract:
    """Buffers, copies, deltas, refusals. `make` is the one thing to define."""

    def make(self) -> DeviceBackend:
        """A freshly opened device."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def read(self, device: DeviceBackend, buffer: Any, nbytes: int) -> bytes:
        """All bytes of a buffer."""
        out = bytearray(b"\xa5" * nbytes)
        device.download(buffer, out)
        return bytes(out)

    def filled(self, device: DeviceBackend, data: bytes) -> Any:
        """A buffer with these bytes."""
        buffer = device.allocate(len(data))
        device.upload(buffer, data)
        return buffer

    # ---- can and should

    def test_it_can_apply_deltas(self) -> None:
        """The one operation that no device may lack."""
        assert self.make().can_run("apply_delta") is True

    def test_unknown_operations_are_answered_not_raised(self) -> None:
        """A device of today meets a core of tomorrow."""
        answer = self.make().can_run("an operation of the future")
        assert answer is False or (isinstance(answer, str) and answer)

    @pytest.mark.parametrize("nbytes", SIZES)
    def test_it_says_whether_it_should(self, nbytes: int) -> None:
        """True, False or a reason."""
        answer = self.make().should_run("apply_delta", nbytes)
        assert isinstance(answer, bool) or (isinstance(answer, str) and answer)

    # ---- buffers and copies

    @pytest.mark.parametrize("nbytes", SIZES)
    def test_new_buffers_are_zero(self, nbytes: int) -> None:
        """Also where memory is used again."""
        device = self.make()
        device.free(self.filled(device, b"\xff" * nbytes))
        assert self.read(device, device.allocate(nbytes), nbytes) == bytes(nbytes)

    @pytest.mark.parametrize("nbytes", SIZES)
    def test_what_goes_up_comes_down(self, nbytes: int) -> None:
        """Whole buffers, read-only sources, and parts at any offset."""
        device, rng = self.make(), random.Random(nbytes)
        expected = bytearray(rng.randbytes(nbytes))
        buffer = self.filled(device, bytes(expected))
        for _ in range(20):
            at = rng.randrange(nbytes)
            part = rng.randbytes(rng.randrange(nbytes - at + 1))
            device.upload(buffer, memoryview(part), at)
            expected[at : at + len(part)] = part
            out = bytearray(rng.randrange(nbytes - at + 1))
            device.download(buffer, out, at)
            assert out == expected[at : at + len(out)]
        assert self.read(device, buffer, nbytes) == expected

    def test_it_keeps_no_hold_of_host_memory(self) -> None:
        """What was uploaded may be changed, what was downloaded is a copy."""
        device = self.make()
        data = bytearray(b"before")
        buffer = self.filled(device, data)  # type: ignore[arg-type]
        data[:] = b"after!"
        out = bytearray(6)
        device.download(buffer, out)
        device.upload(buffer, b"again!")
        device.synchronize()
        assert out == b"before" and self.read(device, buffer, 6) == b"again!"

    def test_buffers_are_independent(self) -> None:
        """Freeing and writing one leaves the others alone."""
        device = self.make()
        buffers = [self.filled(device, bytes([i]) * 100) for i in range(10)]
        for buffer in buffers[::2]:
            device.free(buffer)
        for i, buffer in list(enumerate(buffers))[1::2]:
            assert self.read(device, buffer, 100) == bytes([i]) * 100

    # ---- deltas

    @pytest.mark.parametrize("nbytes", SIZES)
    def test_deltas_write_their_bytes_and_no_others(self, nbytes: int) -> None:
        """Every encoding, compared with the host after every delta."""
        device, rng = self.make(), random.Random(nbytes)
        expected = bytearray(rng.randbytes(nbytes))
        buffer = self.filled(device, bytes(expected))
        for density in (0.001, 0.02, 0.3, 1.0) * 3:
            new = bytearray(value ^ (rng.random() < density) for value in expected)
            delta = Delta.between(1, bytes(expected), bytes(new))
            if delta is not None:
                device.apply_delta(buffer, delta)
            device.synchronize()
            expected = new
            assert self.read(device, buffer, nbytes) == expected

    def test_deltas_take_effect_in_order(self) -> None:
        """Without a synchronize between."""
        device = self.make()
        buffer = device.allocate(64)
        for value in range(50):
            device.apply_delta(buffer, Delta.from_ranges(1, [(value % 7, 8)], bytes([value]) * 8))
        expected = bytearray(64)
        for value in range(50):
            expected[value % 7 : value % 7 + 8] = bytes([value]) * 8
        assert self.read(device, buffer, 64) == expected

    def test_a_delta_beyond_the_end_changes_nothing(self) -> None:
        """It begins inside and ends outside."""
        device = self.make()
        buffer = self.filled(device, b"12345678")
        with pytest.raises(InvalidDeltaError):
            device.apply_delta(buffer, Delta.from_ranges(1, [(0, 2), (7, 2)], b"abcd"))
            device.synchronize()
        assert self.read(device, buffer, 8) == b"12345678"

    # ---- refusals

    @pytest.mark.parametrize("nbytes", [0, -1])
    def test_no_empty_buffers(self, nbytes: int) -> None:
        """Pages have at least one byte."""
        with pytest.raises(PageSizeError):
            self.make().allocate(nbytes)

    @pytest.mark.parametrize(("at", "length"), [(5, 4), (-1, 2), (9, 1), (0, 9)])
    def test_ranges_beyond_the_end_are_refused(self, at: int, length: int) -> None:
        """Up and down, and nothing changes on either side."""
        device = self.make()
        buffer = self.filled(device, b"12345678")
        out = bytearray(b"." * length)
        with pytest.raises(PageRangeError):
            device.upload(buffer, b"x" * length, at)
        with pytest.raises(PageRangeError):
            device.download(buffer, out, at)
        assert out == b"." * length and self.read(device, buffer, 8) == b"12345678"

    def test_a_freed_buffer_is_gone(self) -> None:
        """Every use of it is refused, a second free too, also when a new buffer took its memory."""
        device = self.make()
        gone = device.allocate(16)
        device.free(gone)
        device.allocate(16)
        delta = Delta.from_ranges(1, [(0, 1)], b"x")
        for use in (
            lambda: device.free(gone),
            lambda: device.upload(gone, b"x"),
            lambda: device.download(gone, bytearray(1)),
            lambda: device.apply_delta(gone, delta),
        ):
            with pytest.raises(DeviceBufferError):
                use()
