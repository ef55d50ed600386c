"""Fixtures for tests of anything built on mmsb; pytest finds them in every environment that has mmsb."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mmsb.state import State
    from mmsb.testing.eventlog import EventLog


@pytest.fixture
def state() -> Iterator[State]:
    """A fresh State in memory, closed after the test."""
    from mmsb.opening import open as open_state

    with open_state() as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[State]:
    """A fresh durable State at `store.path`, inside the test's own folder, closed after the test."""
    from mmsb.opening import open as open_state

    with open_state(tmp_path / "store.mmsb") as opened:
        yield opened


@pytest.fixture
def eventlog(state: State) -> EventLog:
    """What happens to the State of the fixture `state`, as an mmsb.testing.EventLog of all kinds of events."""
    from mmsb.testing.eventlog import EventLog

    return EventLog(state)
