"""mmsb_devices: a device is opened by its spec and holds bytes."""

from mmsb._core.delta import Delta
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
