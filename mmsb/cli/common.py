"""What commands share: the STORE argument, opening it, places in its history, pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from mmsb.cli.output import Failure
from mmsb.errors import PluginError

if TYPE_CHECKING:
    from mmsb.plugin.registry import Registry
    from mmsb.state import State

# Where the root context keeps the damage that an open store was read up to.
DAMAGE = "mmsb.damage"

# Where it keeps the plugins, once they were needed.
REGISTRY = "mmsb.registry"

Function = Callable[..., Any]


def registry(strict: bool | None = None) -> Registry:
    """The plugins, loaded at most once per command line; `strict` as in PluginManager. Failure when one is refused."""
    meta = click.get_current_context().find_root().meta
    if REGISTRY not in meta:
        from mmsb.plugin.manager import PluginManager

        try:
            meta[REGISTRY] = PluginManager(strict=strict).load()
        except PluginError as error:
            raise Failure(error) from error  # --help loads plugins too, where nobody else would turn it into a sentence
    found: Registry = meta[REGISTRY]
    return found


def store_argument(function: Function) -> Function:
    """Adds the argument STORE (an existing path)."""
    return click.argument("store", type=click.Path(exists=True))(function)


def served_argument(function: Function) -> Function:
    """Adds the argument STORE: what mmsb.attach() takes, the path of a store or the name of a State."""

    def check(_: click.Context, __: click.Parameter, value: str) -> str:
        if not value:
            raise click.BadParameter("It is empty. Give the path of a store or the name of a State.")
        return value

    return click.argument("store", callback=check)(function)


@contextmanager
def open_store(path: str, read_only: bool = True) -> Iterator[State]:
    """The State of a store: for reading beside its owner, or as its one writer. Never makes a store.

    Reading goes on before damage: what is intact is shown, and the command then ends with the damage as its error.
    """
    from mmsb.config import anchor_key
    from mmsb.errors import MMSBError, NotAStoreError
    from mmsb.opening import open as open_state

    if os.path.isdir(path):
        is_store = os.path.exists(os.path.join(path, "store"))
    else:
        is_store = read_only and is_checkpoint(path)
    if not is_store:
        raise NotAStoreError(f"There is no store at {path}. Check the path.", path=path)
    try:
        state = open_state(path, read_only=read_only, anchor_key=anchor_key())
    except ValueError as error:
        if isinstance(error, MMSBError):
            raise
        raise click.UsageError(str(error)) from error  # the environment says something that does not fit the store
    with state:
        if state.recovered.damage is not None:
            click.get_current_context().find_root().meta[DAMAGE] = state.recovered.damage
        yield state


def is_checkpoint(path: str) -> bool:
    """Whether a file begins as a checkpoint does."""
    from mmsb.checkpoint import MAGIC

    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class Place(click.ParamType):
    """A place in history: a seq, a label, or a time (ISO 8601, UTC when it names no zone)."""

    name = "seq|label|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str | datetime:
        """`label:NAME` is a label even when NAME looks like a number or a time."""
        text = str(value)
        if text.startswith("label:"):
            return text.removeprefix("label:")
        if text.isdecimal() and text.isascii():
            return int(text)
        if text[:4].isdecimal() and "-" in text:
            try:
                when = datetime.fromisoformat(text)
            except ValueError:
                return text
            return when if when.tzinfo else when.replace(tzinfo=UTC)
        return text


def at_option(function: Function) -> Function:
    """Adds --at; the command gets `at` (None: now)."""
    help_text = "The state as it was: a seq, a label, or a time such as 2026-01-31T12:00:00Z (label:X for odd labels)."
    return click.option("--at", "place", type=Place(), help=help_text)(function)


def interval_option(least: float, default: float, help_text: str) -> Callable[[Function], Function]:
    """Adds --interval, in seconds."""
    return click.option(
        "--interval",
        type=click.FloatRange(min=least),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help=help_text,
    )


def state_at(state: State, place: int | str | datetime | None) -> Any:
    """The State itself, or a view of its past."""
    return state if place is None else state.at(place)


def page_of(state: Any, text: str) -> Any:
    """A page by name, or by id when no page has that name. PageNotFoundError otherwise."""
    if text.isdecimal() and text.isascii() and text not in state:
        return state.page(int(text))
    return state.page(text)
