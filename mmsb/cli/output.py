"""What commands print: tables for people, JSON for programs, errors in one sentence, progress of long work."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from mmsb import errors

FAULTS = (
    errors.CorruptLogError,
    errors.CommitInDoubtError,
    errors.StoreFullError,
)
PROGRESS_DELAY_S = 1.0
# Rows of one table; longer output goes on with another one, so that nothing waits for the last row.
ROWS_AT_ONCE = 500
# Python writes longer integers in decimal slowly, or not at all (sys.set_int_max_str_digits).
DECIMAL_BITS_MOST = 14_000


def run(commands: click.Group, name: str) -> None:
    """Runs a command line on sys.argv; never returns."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # it was closed when the process began; its number is no file of a store's
            setattr(sys, stream, open(os.devnull, "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding does not
    try:
        commands(prog_name=name)
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            # It was told as the command's error. What is left would fail again, with another status, as Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def printable(text: object) -> str:
    """Text that a terminal shows as it is: what a store brings could hold control characters."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(text))


def short(value: Any) -> Any:
    """The value, or the hexadecimal text of an integer that is too long for a decimal one."""
    return hex(value) if isinstance(value, int) and value.bit_length() > DECIMAL_BITS_MOST else value


def as_json(value: Any) -> Any:
    """The value in JSON types: bytes become {"hex": ...}, what has no JSON form its text."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"hex": bytes(value).hex()}
    if value is None or isinstance(value, (bool, int, str)):
        return short(value)
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has no inf and no nan
    return str(value)


def print_json(value: Any) -> None:
    """One document on one line."""
    click.echo(json.dumps(as_json(value)))


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --json; the command gets `as_json`."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
        ctx.find_root().meta["mmsb.json"] = value
        return value

    help_text = "Print JSON instead of tables."
    return click.option("--json", "wants_json", is_flag=True, callback=remember, help=help_text)(function)


class Failure(click.ClickException):
    """An error of mmsb or of the system, as a sentence (with --json: a document) on stderr and an exit status."""

    def __init__(self, error: Exception) -> None:
        text = str(error)
        if isinstance(error, OSError) and not isinstance(error, errors.MMSBError):
            name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            text = f"{name}{error.strerror}" if error.strerror else text
        super().__init__(text)
        self.error = error
        expected = isinstance(error, errors.MMSBError) and not isinstance(error, FAULTS)
        self.status = 2 if expected else 1
        self.in_json = bool(click.get_current_context().find_root().meta.get("mmsb.json"))

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """2 when nothing is wrong with the store, only with what was asked of it."""
        return self.status

    def show(self, file: Any = None) -> None:
        """Prints it."""
        if self.in_json:
            facts = as_json(getattr(self.error, "facts", {}))
            document = {"error": {"type": type(self.error).__name__, "message": self.message, "facts": facts}}
            click.echo(json.dumps(document), file=file or sys.stderr)
        else:
            click.echo(f"Error: {printable(self.message)}", file=file or sys.stderr)


def show(table: Any) -> None:
    """Prints a rich table. Without a terminal its lines are as long as they need to be."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 4096, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[str] = ()) -> int:
    """Prints rows as they come, `right` names the columns of numbers. Returns how many there were."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    right, count = frozenset(right), 0
    table: Table | None = None
    for row in rows:
        if table is None:
            table = Table(box=box.SIMPLE_HEAD, show_header=True, pad_edge=False, show_edge=False)
            for name in columns:
                table.add_column(name, justify="right" if name in right else "left", overflow="fold")
        table.add_row(*(Text("" if cell is None else printable(cell)) for cell in row))
        count += 1
        if count % ROWS_AT_ONCE == 0:
            show(table)
            table = None
    if table is not None:
        show(table)
    return count


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Prints name and value pairs, one a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name, style="bold"), Text(printable("" if value is None else value)))
    show(table)


def human_bytes(count: int) -> str:
    """A number of bytes for people: 512 B, 3.2 KiB."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.1f} {unit}"


def human_rate(per_s: float | None) -> str:
    """So many per second, for people: 0/s, 3.5/s, 12,345/s; nothing when it is not known."""
    if per_s is None:
        return ""
    return f"{per_s:,.0f}/s" if per_s >= 10 else f"{per_s:.2g}/s"


def human_bytes_rate(per_s: float) -> str:
    """So many bytes per second, for people: 3.2 KiB/s."""
    return f"{human_bytes(round(per_s))}/s"


def human_count(count: int, noun: str) -> str:
    """A number of things, for people: 1 page, 12,345 pages."""
    return f"{count:,} {noun}" + ("s" if count != 1 else "")


def utc(time_ns: int) -> str:
    """A timestamp for people, in UTC, to the microsecond."""
    seconds, rest_ns = divmod(time_ns, 10**9)
    try:
        text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{time_ns} ns"
    return f"{text}.{rest_ns // 1000:06d}"


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields report(done, total). A bar appears on stderr when it is a terminal and the work lasts over a second."""
    begin_s = time.monotonic()
    bar: Any = None
    task: Any = None
    visible = sys.stderr.isatty()

    def report(done: int, total: int) -> None:
        nonlocal bar, task
        if not visible or (bar is None and time.monotonic() - begin_s < PROGRESS_DELAY_S):
            return
        if bar is None:
            from rich.console import Console
            from rich.progress import Progress

            bar = Progress(console=Console(stderr=True), transient=True)
            task = bar.add_task(what, total=total)
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        if bar is not None:
            bar.stop()
