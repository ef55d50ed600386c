"""Finding and loading plugins: entry points of the group `mmsb`. A broken one is a recorded fact, never a crash."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from mmsb.config import allowed_plugins, strict_plugins
from mmsb.errors import PluginError
from mmsb.plugin import hookspecs, records
from mmsb.plugin.records import PluginRecord
from mmsb.plugin.types import API, CommandSpec

if TYPE_CHECKING:
    import click

GROUP = "mmsb"


class PluginManager:
    """The plugins that are installed. `records` says what became of each; `commands` maps names to specs.

    `MMSB_PLUGINS=a,b` allows only those (empty: none). `MMSB_PLUGINS_STRICT=1`: a plugin that fails raises PluginError.
    """

    def __init__(self) -> None:
        self.records: list[PluginRecord] = []
        self.commands: dict[str, CommandSpec] = {}
        self.owners: dict[str, str] = {}
        self.allowed = allowed_plugins()
        self.strict = strict_plugins()

    def load(self) -> PluginManager:
        """Loads all entry points, in order of name. Returns itself."""
        found = sorted(entry_points(group=GROUP), key=lambda point: (point.name, _distribution(point)))
        for point in found:
            record = self.load_one(point)
            self.records.append(record)
            if self.strict and record.status not in (records.ACTIVE, records.BLOCKED):
                raise PluginError(
                    f"Plugin {record.name} of {record.distribution} is {record.status}: {record.reason}. "
                    "Mend or uninstall it, or leave MMSB_PLUGINS_STRICT unset.",
                    plugin=record.name,
                    reason=record.reason,
                )
        return self

    def load_one(self, point: EntryPoint) -> PluginRecord:
        """Loads one plugin and says what became of it."""

        def record(status: str, reason: str = "", commands: tuple[str, ...] = ()) -> PluginRecord:
            version = point.dist.version if point.dist is not None else "?"
            return PluginRecord(point.name, _distribution(point), version, status, reason, commands)

        if self.allowed is not None and point.name not in self.allowed:
            return record(records.BLOCKED, "not named in MMSB_PLUGINS")
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            return record(records.FAILED_IMPORT, f"{type(error).__name__}: {error}")
        api = getattr(module, "MMSB_API", None)
        if not isinstance(api, int):
            return record(records.FAILED_VALIDATION, "it does not state MMSB_API")
        if api != API:
            return record(records.TOO_NEW if api > API else records.TOO_OLD, f"it is for API {api}, this is {API}")
        manager = pluggy.PluginManager("mmsb")
        manager.add_hookspecs(hookspecs)
        try:
            manager.register(module, point.name)
            manager.check_pending()
            specs = [spec for answer in manager.hook.mmsb_commands() for spec in answer]
        except (Exception, SystemExit) as error:
            return record(records.FAILED_VALIDATION, f"{type(error).__name__}: {error}")
        for spec in specs:
            if not isinstance(spec, CommandSpec):
                return record(records.FAILED_VALIDATION, f"mmsb_commands gave a {type(spec).__name__}")
            if spec.name in self.commands:
                return record(records.CONFLICT, f"command {spec.name!r} is {self.owners[spec.name]}'s already")
        for spec in specs:
            self.commands[spec.name] = spec
            self.owners[spec.name] = point.name
        return record(records.ACTIVE, commands=tuple(spec.name for spec in specs))


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "?"


def _lazy_command(spec: CommandSpec) -> click.Command:
    import click

    class Lazy(click.Command):
        """Shows its summary without importing anything; becomes the real command when it is run."""

        def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
            module, _, attribute = spec.load.partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command.make_context(*args, **kwargs)

    return Lazy(spec.name, help=spec.summary)


def load_commands() -> list[click.Command]:
    """The commands of all active plugins; each is imported when it is run."""
    return [_lazy_command(spec) for _, spec in sorted(PluginManager().load().commands.items())]
