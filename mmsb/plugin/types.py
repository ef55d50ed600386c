"""The frozen things that hooks return."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Plugins state the number they were written for; another one is refused.
API = 1
NAME = re.compile(r"^[a-z][a-z0-9-]*$")
TARGET = re.compile(r"^[\w.]+:\w+$")


@dataclass(frozen=True)
class CommandSpec:
    """A command of the command line. `load`: 'module:attribute' of a click command, imported when it is run."""

    name: str
    summary: str
    load: str

    def __post_init__(self) -> None:
        if not NAME.match(self.name) or not TARGET.match(self.load) or not self.summary:
            raise ValueError(f"not a command: {self.name!r}, {self.summary!r}, {self.load!r}")
