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
STATUSES = (ACTIVE, BLOCKED, FAILED_IMPORT, FAILED_VALIDATION, CONFLICT, TOO_NEW, TOO_OLD)

# A plugin module should name things, not load them: a second is what a person at a command line notices.
SLOW_NS = 10**9


@dataclass(frozen=True)
class PluginRecord:
    """One entry point of the group `mmsb`: where it comes from, its status, and why.

    `module` is what the entry point names, `load_ns` how long importing it and asking its hooks took (0: not tried),
    `hooks` those it implements, `offers` the (kind, name) pairs that they returned, `traceback` that of the exception.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: str
    reason: str = ""
    traceback: str = ""
    load_ns: int = 0
    hooks: tuple[str, ...] = ()
    offers: tuple[tuple[str, str], ...] = ()

    @property
    def broken(self) -> bool:
        """Whether something is wrong with it: it is neither at work nor kept out on purpose."""
        return self.status not in (ACTIVE, BLOCKED)

    @property
    def slow(self) -> bool:
        """Whether loading it took over a second."""
        return self.load_ns > SLOW_NS

    @property
    def origin(self) -> str:
        """The plugin with its distribution and version, for messages."""
        return f"{self.name} of {self.distribution} {self.version}"

    def __str__(self) -> str:
        text = f"{self.origin} is {self.status}"
        return f"{text}: {self.reason}" if self.reason else text
