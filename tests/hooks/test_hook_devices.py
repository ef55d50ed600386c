"""mmsb_devices: a device is opened by its spec and holds bytes."""

import pytest

import mmsb
from mmsb._core.delta import Delta
from mmsb.builtin.loopback import Loopback
from mmsb.mirror import Mirror
from mmsb.plugin.manager import PluginManager


def test_hook_mmsb_devices(example):
    registry, names = example("devices")
    assert names == ["second-loopback"] and list(registry.devices) == ["loopback", "second-loopback"]
    device = registry.devices["second-loopback"].make()
    buffer, out = device.allocate(4), bytearray(4)
    device.apply_delta(buffer, Delta.from_ranges(1, [(1, 2)], b"ab"))
    device.download(buffer, out)
    assert out == b"\0ab\0"


def test_the_loopback_device_gives_reasons():
    device = PluginManager([]).load().devices["loopback"].make()
    assert device.can_run("digest") == "the loopback device has no digest"
    assert device.should_run("apply_delta", 1 << 30) == "the loopback device is no faster than the host"


def test_a_page_is_mirrored_on_a_device_by_name():
    with mmsb.open() as state:
        page, seen = state.create_page(1000, data=b"begin"), bytearray(1000)
        with Mirror(state, page, "loopback") as mirror:
            for at in (0, 500, 999):
                page.write(b"x", at=at)
            mirror.device.download(mirror.buffer, seen)
            assert seen == page.read()
        with pytest.raises(mmsb.PluginError, match=r"There is no device 'cuda'.*Known: loopback"):
            Mirror(state, page, "cuda")


def test_a_device_without_room_leaves_no_subscription():
    class Full(Loopback):
        def allocate(self, nbytes):
            raise MemoryError

    with mmsb.open() as state:
        page = state.create_page(8)
        with pytest.raises(MemoryError):
            Mirror(state, page, Full())
        page.write(b"x")
        assert state.stats()["events"]["failures"] == 0
