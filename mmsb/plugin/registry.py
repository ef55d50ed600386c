"""What the plugins offer, by kind and name. Frozen: it is made once, when all plugins are loaded."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from mmsb.errors import PluginError
from mmsb.plugin import hookspecs
from mmsb.plugin.records import ACTIVE, PluginRecord
from mmsb.plugin.types import Spec

PREFIX = "mmsb_"


@functools.cache
def kinds() -> Mapping[str, type[Spec]]:
    """Each kind and the type of its specs, as the hook specifications declare them."""
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith(PREFIX)}
    return {name.removeprefix(PREFIX): get_args(get_type_hints(hook)["return"])[0] for name, hook in hooks.items()}


@dataclass(frozen=True)
class Registry:
    """`registry.semirings`, `registry.policies`, ...: read-only mappings of name to spec, sorted, one per kind.

    `records` says what became of every plugin.
    """

    records: tuple[PluginRecord, ...]
    specs: Mapping[str, Mapping[str, Any]]

    def __getattr__(self, kind: str) -> Mapping[str, Any]:
        if kind not in kinds():
            raise AttributeError(f"{kind!r} is no kind of plugin. There are {', '.join(kinds())}.")
        return self.specs[kind]

    def find(self, kind: str, name: str) -> Any:
        """The spec of a name. PluginError (`plugin`, `reason`, `records`) when no active plugin offers it.

        The error quotes the records of those that offered the name, or else of all that are not active: what is asked
        for may be theirs.
        """
        found = getattr(self, kind).get(name)
        if found is not None:
            return found
        idle = [record for record in self.records if record.status != ACTIVE]
        quoted = [record for record in idle if (kind, name) in record.offers] or idle
        noun, known = kinds()[kind].NOUN, ", ".join(getattr(self, kind)) or "none"
        reason = "; ".join(map(str, quoted)) or "no plugin offers it"
        message = f"There is no {noun} {name!r} ({reason}). Known: {known}. `mmsb plugins` shows what is installed."
        raise PluginError(message, plugin=name, reason=reason, records=tuple(quoted))
