"""The frozen things that hooks return, checked when they are made: a plugin's mistake shows at its source."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from mmsb.errors import MMSBError, PluginError, PluginSpecError
from mmsb.plugin.protocols import DeviceBackend, Exporter, Policy, Semiring

# A plugin states, as MMSB_API, the number it was written for. It rises when a hook or a protocol changes its meaning.
API = 1
OLDEST_API = 1

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
# Types of lanes, as numpy names them.
DTYPES = ("uint8", "int32", "int64", "float32", "float64")
# What a semiring may declare to hold; docs/hooks/semirings.md writes them out.
LAWS = (
    "add-associative",
    "add-commutative",
    "add-idempotent",
    "add-identity",
    "mul-associative",
    "mul-identity",
    "left-distributive",
    "right-distributive",
    "zero-annihilates",
)
SIGNALS = ("metrics", "traces")


@dataclass(frozen=True)
class Spec:
    """What results of every hook have: a `name`, by which users ask for the thing, and a `summary` of one line.

    Raises PluginSpecError when a field is wrong.
    """

    name: str
    summary: str

    # What users call such a thing, and the field that says where its code is.
    NOUN: ClassVar[str]
    TARGET: ClassVar[str]

    def __post_init__(self) -> None:
        is_name = isinstance(self.name, str) and NAME.fullmatch(self.name)
        self.require(bool(is_name), "name", "Use small letters, digits, - and _, and begin with a letter or digit.")
        is_line = isinstance(self.summary, str) and self.summary.isprintable() and bool(self.summary.strip())
        self.require(is_line, "summary", "Give one line of printable text.")
        target = getattr(self, self.TARGET)
        is_target = callable(target) or (isinstance(target, str) and bool(TARGET.fullmatch(target)))
        self.require(is_target, self.TARGET, "Give 'module:attribute', or something callable.")

    def require(self, holds: bool, field: str, advice: str) -> None:
        """PluginSpecError about a field unless `holds`."""
        if not holds:
            value, spec = getattr(self, field), type(self).__name__
            reason = f"{spec}.{field} is {value!r}"
            raise PluginSpecError(
                f"{reason}. {advice}", plugin=None, reason=reason, spec=spec, field=field, value=value
            )

    def resolve(self) -> Any:
        """The callable that the spec names, imported now. PluginError when there is none."""
        target = getattr(self, self.TARGET)
        if callable(target):
            return target
        module, _, attribute = target.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise self.broken(f"{target} cannot be imported ({type(error).__name__}: {error})") from error
        if not callable(found):
            raise self.broken(f"{target} is a {type(found).__name__}, which cannot be called")
        return found

    def broken(self, reason: str) -> PluginError:
        """A PluginError about this thing."""
        message = f"The {self.NOUN} {self.name!r} cannot be used: {reason}. Mend or update the plugin that offers it."
        return PluginError(message, plugin=self.name, reason=reason)


@dataclass(frozen=True)
class CommandSpec(Spec):
    """A command of the command line. `load`: a click command, or 'module:attribute' of one, imported when it is run."""

    load: str | Callable[..., Any]

    NOUN: ClassVar[str] = "command"
    TARGET: ClassVar[str] = "load"

    def resolve(self) -> Any:
        """The click command. PluginError when there is none."""
        found = super().resolve()
        if not hasattr(found, "make_context"):
            raise self.broken(f"{self.load} is a {type(found).__name__} and no click command")
        return found


@dataclass(frozen=True)
class MadeSpec(Spec):
    """A thing that a `factory` makes: something callable, or 'module:attribute' of it, imported when first needed."""

    factory: str | Callable[..., Any]

    TARGET: ClassVar[str] = "factory"
    # The protocol that what is made must have.
    MAKES: ClassVar[type]

    def make(self, *arguments: Any) -> Any:
        """Calls the factory. PluginError when it cannot be imported, raises, or made what lacks a member of the
        protocol. Its errors of mmsb and of the system pass through: they say what the caller or the machine lacks.
        """
        factory = self.resolve()
        try:
            made = factory(*arguments)
        except (MMSBError, OSError):
            raise
        except (Exception, SystemExit) as error:
            raise self.broken(f"it cannot be made ({type(error).__name__}: {error})") from error
        members = {*vars(self.MAKES), *vars(self.MAKES).get("__annotations__", ())}
        missing = sorted(name for name in members if not name.startswith("_") and not hasattr(made, name))
        if missing:
            raise self.broken(f"its factory made a {type(made).__name__} without {', '.join(missing)}")
        return made


@dataclass(frozen=True)
class SemiringSpec(MadeSpec):
    """A semiring. `factory(dtype)` makes it for one of `dtypes`: uint8, int32, int64, float32, float64."""

    dtypes: tuple[str, ...]

    NOUN: ClassVar[str] = "semiring"
    MAKES: ClassVar[type] = Semiring

    def __post_init__(self) -> None:
        super().__post_init__()
        known = isinstance(self.dtypes, tuple) and bool(self.dtypes) and all(dtype in DTYPES for dtype in self.dtypes)
        self.require(known, "dtypes", f"Give a tuple of some of {', '.join(DTYPES)}.")

    def make(self, *arguments: Any) -> Any:
        """The semiring over one of `dtypes`, its only argument. PluginError for any other."""
        if len(arguments) != 1 or arguments[0] not in self.dtypes:
            asked = ", ".join(map(repr, arguments))
            raise self.broken(f"it is not made for ({asked}), only for one of {', '.join(self.dtypes)}")
        return super().make(*arguments)


@dataclass(frozen=True)
class DeviceBackendSpec(MadeSpec):
    """A kind of device that can hold pages. `factory()` opens it."""

    NOUN: ClassVar[str] = "device"
    MAKES: ClassVar[type] = DeviceBackend


@dataclass(frozen=True)
class PropagationPolicySpec(MadeSpec):
    """When waves run. `factory()` makes the policy of one State.

    `lossy`: what is read may differ from what the policy `immediate` gives, and nothing says so.
    """

    lossy: bool = False

    NOUN: ClassVar[str] = "policy"
    MAKES: ClassVar[type] = Policy

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(isinstance(self.lossy, bool), "lossy", "Give True or False.")


@dataclass(frozen=True)
class ExporterSpec(MadeSpec):
    """A way out for metrics and traces. `factory(target)` opens it; `signals` says which of the two it takes."""

    signals: tuple[str, ...] = SIGNALS

    NOUN: ClassVar[str] = "exporter"
    MAKES: ClassVar[type] = Exporter

    def __post_init__(self) -> None:
        super().__post_init__()
        known = isinstance(self.signals, tuple) and bool(self.signals) and all(name in SIGNALS for name in self.signals)
        self.require(known, "signals", f"Give a tuple of some of {', '.join(SIGNALS)}.")
