"""What every suite shares: report header, hypothesis profiles, a seeded random source, no network."""

import ipaddress
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

PROFILE = os.environ.get("MMSB_HYPOTHESIS_PROFILE", "ci")
SEED = int(os.environ.get("MMSB_TEST_SEED", "1"))

_COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=20, stateful_step_count=20, derandomize=True, **_COMMON)
settings.register_profile("ci", max_examples=100, stateful_step_count=50, derandomize=True, **_COMMON)
settings.register_profile("release", max_examples=2000, stateful_step_count=200, print_blob=True, **_COMMON)
settings.load_profile(PROFILE)


def _cpu_report() -> str:
    try:
        import mmsb

        return str(mmsb.cpu_report())
    except Exception as error:  # the header must appear even when the build is broken
        return f"not available ({type(error).__name__}: {error})"


def pytest_report_header() -> list[str]:
    cpu = _cpu_report().strip().splitlines() or ["(empty)"]
    return [
        f"mmsb seed: MMSB_TEST_SEED={SEED}, hypothesis profile: {PROFILE}",
        f"mmsb cpu: {cpu[0]} (MMSB_DISABLE_CPU={os.environ.get('MMSB_DISABLE_CPU', '')!r})",
        *(f"          {line}" for line in cpu[1:]),
    ]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A random source of its own for each test, the same on every run with one MMSB_TEST_SEED."""
    return random.Random(f"{SEED}:{request.node.nodeid}")


@pytest.fixture
def mappable(tmp_path: Path) -> None:
    """For a test of segments that are mapped: not where they are not, as on the overlays of containers."""
    from mmsb._core.files import Files
    from mmsb.store import Store

    files = Files()
    fd = files.open(tmp_path, os.O_RDONLY)
    kind = files.filesystem(fd)
    files.close(fd)
    if kind not in Store.MAPPABLE:
        pytest.skip("segments are not mapped on this file system")


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # AF_UNIX and friends
    host = str(address[0]).partition("%")[0]
    try:
        return host in ("", "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A connection to anything but this machine is an error."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            original = getattr(socket.socket, name)

            def guarded(self: socket.socket, address: Any, original: Any = original) -> Any:
                if not _is_local(address):
                    raise RuntimeError(f"a test tried to reach {address!r}; tests use no network")
                return original(self, address)

            patch.setattr(socket.socket, name, guarded)
        yield
