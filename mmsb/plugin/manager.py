"""Finding and loading plugins: entry points of the group `mmsb`. A broken one is a recorded fact, never a crash.

Plugins run inside the process with all its rights: what is kept away is mistakes, not malice.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import EntryPoint, distributions, entry_points
from time import perf_counter_ns
from types import MappingProxyType
from typing import Any, NamedTuple

import pluggy

from mmsb._version import __version__
from mmsb.config import allowed_plugins, strict_plugins
from mmsb.errors import PluginError
from mmsb.plugin import hookspecs, records
from mmsb.plugin.builtins import BUILT_IN
from mmsb.plugin.records import PluginRecord
from mmsb.plugin.registry import PREFIX, Registry, kinds
from mmsb.plugin.types import API, NAME, OLDEST_API, Spec

GROUP = "mmsb"
REASON_MOST = 300  # characters; the traceback has the rest


class _Refused(Exception):
    """A plugin that was imported and cannot be used. Its arguments are the status and the reason."""


class _Loaded(NamedTuple):
    """A record, and what its plugin offers as (kind, spec)."""

    record: PluginRecord
    specs: tuple[tuple[str, Spec], ...] = ()

    @property
    def is_builtin(self) -> bool:
        return self.record.name in BUILT_IN and self.record.distribution == GROUP


class PluginManager:
    """Loads plugins. `points` replaces the installed entry points, `clock` (nanoseconds) measures each plugin's load.

    `MMSB_PLUGINS=a,b` allows only those (empty: none). Built-in plugins are part of mmsb and always allowed. `strict`
    (default: whether `MMSB_PLUGINS_STRICT=1`): a plugin that fails raises PluginError.
    """

    def __init__(
        self,
        points: Iterable[EntryPoint] | None = None,
        clock: Callable[[], int] = perf_counter_ns,
        strict: bool | None = None,
    ) -> None:
        self.points = points
        self.clock = clock
        self.allowed = allowed_plugins()
        self.strict = strict_plugins() if strict is None else strict

    def load(self) -> Registry:
        """Loads all plugins, built-in ones first, then in order of name. PluginError only when strict."""
        loaded = [self.load_one(_record(point), point) for point in _built_in_points()]
        points, unreadable = (self.points, []) if self.points is not None else installed_points()
        found = sorted(((_record(point), point) for point in points), key=lambda pair: (pair[0].name, pair[0].origin))
        owners = Counter([*BUILT_IN, *(record.name for record, _ in found)])
        for record, point in found:
            if self.allowed is not None and record.name not in self.allowed:
                record = replace(record, status=records.BLOCKED, reason="not named in MMSB_PLUGINS")
                loaded.append(_Loaded(record))
            elif owners[record.name] > 1:
                others = [other.origin for other, _ in found if other.name == record.name and other is not record]
                reason = f"plugins of one name: {', '.join(others) or 'one of mmsb itself'}"
                loaded.append(_Loaded(replace(record, status=records.CONFLICT, reason=reason)))
            else:
                loaded.append(self.load_one(record, point))
        loaded = settle(loaded)
        absent = self.absent([one.record.name for one in loaded])
        registry = _registry([*loaded, *map(_Loaded, [*unreadable, *absent])])
        for record in registry.records:
            if self.strict and record.broken:
                message = f"Plugin {record}. Mend or uninstall it, or leave MMSB_PLUGINS_STRICT unset."
                raise PluginError(message, plugin=record.name, reason=record.reason, records=(record,))
        return registry

    def absent(self, present: list[str]) -> list[PluginRecord]:
        """Records of what MMSB_PLUGINS names and is not installed."""
        records_of_absent = []
        for name in sorted((self.allowed or frozenset()).difference(present)):
            close = get_close_matches(name, present, 1)
            reason = "MMSB_PLUGINS names it, and it is not installed" + (f"; is it {close[0]}?" if close else "")
            records_of_absent.append(PluginRecord(name, "?", "?", "?", records.FAILED_IMPORT, reason))
        return records_of_absent

    def load_one(self, record: PluginRecord, point: EntryPoint) -> _Loaded:
        """Imports a plugin and asks its hooks. Whatever goes wrong is in the record; only Ctrl-C passes through."""
        specs: tuple[tuple[str, Spec], ...] = ()
        status, reason, text = records.FAILED_VALIDATION, "", ""
        begin_ns = self.clock()
        try:
            if not NAME.fullmatch(record.name):
                raise _Refused(status, "its name may hold small letters, digits, - and _ only")
            with redirect_stdout(sys.stderr):  # what it prints must not get into what `mmsb` prints
                status = records.FAILED_IMPORT
                plugin = point.load()
                status = records.FAILED_VALIDATION
                check_api(plugin)
                record = replace(record, hooks=hooks_of(plugin))
                specs = ask(plugin, record)
            status = records.ACTIVE
        except KeyboardInterrupt:
            raise
        except _Refused as refused:
            status, reason = refused.args
        except BaseException as error:  # sys.exit() and whatever else a stranger may think of
            reason = brief(error)
            text = "".join(traceback.format_exception(error))
        record = replace(record, status=status, reason=reason, traceback=text, load_ns=self.clock() - begin_ns)
        offers = tuple((kind, spec.name) for kind, spec in specs)
        return _Loaded(replace(record, offers=offers), specs)


def brief(error: BaseException) -> str:
    """An exception on one line, and no more of it than people read."""
    line = " ".join(traceback.format_exception_only(error)[-1].split())
    return line if len(line) <= REASON_MOST else f"{line[:REASON_MOST]}..."


def check_api(plugin: Any) -> None:
    """A plugin must state a number of the plugin interface that this mmsb knows."""
    api = getattr(plugin, "MMSB_API", None)
    if type(api) is not int:
        raise _Refused(records.FAILED_VALIDATION, "it does not state MMSB_API, the number of the plugin interface")
    if api > API:
        raise _Refused(records.TOO_NEW, f"it is for API {api}, this mmsb has {API}; update mmsb")
    if api < OLDEST_API:
        raise _Refused(records.TOO_OLD, f"it is for API {api}, this mmsb has {OLDEST_API} to {API}; update the plugin")


def hooks_of(plugin: Any) -> tuple[str, ...]:
    """The hooks that a plugin implements. Refuses marked functions, and callables named mmsb_..., that are none."""
    known = [PREFIX + kind for kind in kinds()]
    found = []
    for name in dir(plugin):
        value = getattr(plugin, name)
        options = getattr(value, f"{GROUP}_impl", None)
        if options is None and not (name.startswith(PREFIX) and callable(value)):
            continue
        hook = (options or {}).get("specname") or name
        if hook not in known:
            close = get_close_matches(hook, known, 1)
            advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise _Refused(records.FAILED_VALIDATION, f"{hook} is no hook; {advice}")
        if options is None:
            raise _Refused(records.FAILED_VALIDATION, f"{hook} is not marked with @hookimpl")
        found.append(hook)
    return tuple(found)


def ask(plugin: Any, record: PluginRecord) -> tuple[tuple[str, Spec], ...]:
    """Calls a plugin's hooks, and checks what they return."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, record.name)
    specs = []
    for kind, wanted in kinds().items():
        hook = PREFIX + kind
        if hook not in record.hooks:
            continue
        answers = getattr(manager.hook, hook)()
        if not answers:  # pluggy leaves None out
            raise _Refused(records.FAILED_VALIDATION, f"{hook} returned None; it must return {wanted.__name__}s")
        for spec in answers[0]:
            if not isinstance(spec, wanted):
                reason = f"{hook} gave a {type(spec).__name__}; it must give {wanted.__name__}s"
                raise _Refused(records.FAILED_VALIDATION, reason)
            specs.append((kind, spec))
    for (kind, name), count in Counter((kind, spec.name) for kind, spec in specs).items():
        if count > 1:
            raise _Refused(records.FAILED_VALIDATION, f"it offers the {kinds()[kind].NOUN} {name!r} {count} times")
    return tuple(specs)


def settle(loaded: list[_Loaded]) -> list[_Loaded]:
    """Nobody gets a name that several plugins offer, so that no order decides anything; mmsb keeps its own."""
    offered: dict[tuple[str, str], list[_Loaded]] = {}
    for one in loaded:
        for offer in one.record.offers:
            offered.setdefault(offer, []).append(one)
    settled = []
    for one in loaded:
        clashes = []
        for kind, name in () if one.is_builtin else one.record.offers:
            others = [other.record.origin for other in offered[kind, name] if other is not one]
            if others:
                clashes.append(f"the {kinds()[kind].NOUN} {name!r} is also offered by {', '.join(others)}")
        if clashes:
            one = _Loaded(replace(one.record, status=records.CONFLICT, reason="; ".join(clashes)))
        settled.append(one)
    return settled


def _registry(loaded: list[_Loaded]) -> Registry:
    specs: dict[str, dict[str, Spec]] = {kind: {} for kind in kinds()}
    for one in loaded:
        for kind, spec in one.specs:
            specs[kind][spec.name] = spec
    frozen = {kind: MappingProxyType(dict(sorted(named.items()))) for kind, named in specs.items()}
    return Registry(tuple(one.record for one in loaded), MappingProxyType(frozen))


def _record(point: EntryPoint) -> PluginRecord:
    """The record of a plugin that nothing was done with yet. What its metadata lacks is '?'."""
    if BUILT_IN.get(point.name) == point.value:
        return PluginRecord(point.name, GROUP, __version__, point.value, records.BLOCKED)
    return PluginRecord(point.name, *_name_and_version(point.dist), point.value, records.BLOCKED)


def _name_and_version(distribution: Any) -> tuple[str, str]:
    try:
        return str(distribution.name or "?"), str(distribution.version or "?")
    except Exception:  # no metadata, or not readable
        return "?", "?"


def _built_in_points() -> list[EntryPoint]:
    return [EntryPoint(name, module, GROUP) for name, module in BUILT_IN.items()]


def installed_points() -> tuple[list[EntryPoint], list[PluginRecord]]:
    """The entry points of all installed distributions, and records of those whose entry points cannot be read.

    Of a distribution that is found twice on the path only the first counts, as for imports.
    """
    try:
        return list(entry_points(group=GROUP)), []
    except Exception:  # somebody's entry_points.txt is damaged, which must not hide the others
        points: dict[str, list[EntryPoint]] = {}
        damaged = []
        for distribution in distributions():
            name, version = _name_and_version(distribution)
            if name in points:
                continue
            points[name] = []
            try:
                points[name] = list(distribution.entry_points.select(group=GROUP))
            except Exception as error:
                reason = f"its entry points cannot be read ({type(error).__name__}: {error})"
                damaged.append(PluginRecord(name, name, version, "?", records.FAILED_IMPORT, reason))
        return [point for found in points.values() for point in found], damaged


@functools.cache
def installed() -> Registry:
    """The registry of this process: a fact about the installation, read once, when it is first needed."""
    return PluginManager().load()
