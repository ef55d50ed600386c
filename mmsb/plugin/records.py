"""What became of each plugin."""

from __future__ import annotations

from dataclasses import dataclass

ACTIVE = "active"
BLOCKED = "blocked"
FAILED_IMPORT = "failed-import"
FAILED_VALIDATION = "failed-validation"
CONFLICT = "conflict"
TOO_NEW = "too-new"
TOO_OLD = "too-old"


@dataclass(frozen=True)
class PluginRecord:
    """One entry point of the group `mmsb`: where it comes from, its status, and why."""

    name: str
    distribution: str
    version: str
    status: str
    reason: str = ""
    commands: tuple[str, ...] = ()
