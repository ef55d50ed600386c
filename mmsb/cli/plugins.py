"""`mmsb plugins`: what is installed, what is wrong with it, and how to begin a new one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmsb.cli.common import registry
from mmsb.cli.output import json_option, print_facts, print_json, print_table
from mmsb.cli.scaffold import KINDS, write_package

if TYPE_CHECKING:
    from mmsb.plugin.records import PluginRecord

SHOWN_FILES = 10


def document(record: PluginRecord) -> dict[str, Any]:
    """A record in JSON types."""
    return {**asdict(record), "broken": record.broken, "slow": record.slow}


def offers_text(record: PluginRecord) -> str:
    """What a plugin offers, on one line."""
    from mmsb.plugin.registry import kinds

    return ", ".join(f"{kinds()[kind].NOUN} {name}" for kind, name in record.offers)


@click.group("plugins", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, wants_json: bool) -> None:
    """List the installed plugins, and what became of each.

    Plugins run inside this process with all its rights; install only what you trust. MMSB_PLUGINS=a,b lets only these
    load (empty: none), MMSB_PLUGINS_STRICT=1 makes one that fails an error.
    """
    records = registry(strict=False).records  # what refuses to load is what these commands are for
    if context.invoked_subcommand is not None:
        return
    if wants_json:
        print_json([document(record) for record in records])
        return
    columns = ("plugin", "status", "distribution", "version", "load ms", "offers", "reason")
    print_table(columns, map(row, records), right=("load ms",))


def row(record: PluginRecord) -> tuple[object, ...]:
    """One line of the table; built-in commands are too many to name."""
    offers = f"{len(record.offers)} commands" if record.name == "builtin-commands" else offers_text(record)
    reason = record.reason or ("slow" if record.slow else "")
    load_ms = f"{record.load_ns / 1e6:.1f}"
    return record.name, record.status, record.distribution, record.version, load_ms, offers, reason


@command.command("doctor")
@click.argument("name")
@json_option
@click.pass_context
def doctor(context: click.Context, name: str, wants_json: bool) -> None:
    """Tell everything about the plugin, or the plugins of the distribution, NAME.

    Exit status: 0 when it is active or blocked on purpose, 1 when it is broken or what it offers cannot be imported,
    2 when there is no such plugin.
    """
    records = [record for record in registry().records if name in (record.name, record.distribution)]
    if not records:
        known = ", ".join(record.name for record in registry().records)
        raise click.UsageError(f"There is no plugin {name!r}. There are: {known}.")
    with redirect_stdout(sys.stderr):
        findings = {record: list(examine(record)) for record in records}
    if wants_json:
        print_json([{**document(record), "files": paths(record), "findings": findings[record]} for record in records])
    else:
        for record in records:
            print_record(record, findings[record])
    if any(record.broken or findings[record] for record in records):
        context.exit(1)


def print_record(record: PluginRecord, findings: list[str]) -> None:
    """A record for people."""
    found = paths(record)
    more = f" and {len(found) - SHOWN_FILES} more" if len(found) > SHOWN_FILES else ""
    facts = [
        ("plugin", record.name),
        ("status", record.status),
        ("reason", record.reason or "-"),
        ("distribution", f"{record.distribution} {record.version}"),
        ("module", record.module),
        ("files", " ".join(found[:SHOWN_FILES]) + more or "-"),
        (
            "load time",
            f"{record.load_ns / 1e9:.3f} s{' (slow: import heavy modules when they are used)' * record.slow}",
        ),
        ("hooks", ", ".join(record.hooks) or "-"),
        ("offers", offers_text(record) or "-"),
    ]
    print_facts([*facts, *(("finding", finding) for finding in findings)])
    for line in record.traceback.splitlines():
        click.echo(f"    {click.unstyle(line)}")


def paths(record: PluginRecord) -> list[str]:
    """Where a plugin's module lies when it could be imported, then the files of its distribution as installed."""
    module = sys.modules.get(record.module.partition(":")[0])
    here = [str(module.__file__)] if module is not None and getattr(module, "__file__", None) else []
    try:
        listed = files(record.distribution) or []
    except (PackageNotFoundError, ValueError, OSError):
        return here
    own = (str(path) for path in listed if path.parts[0].partition(".")[0] == record.module.partition(".")[0])
    return here + sorted(own)


def examine(record: PluginRecord) -> Iterator[str]:
    """What is wrong with the things that an active plugin offers: each is made and tried, as far as that is quick."""
    from mmsb.errors import PluginError
    from mmsb.plugin.manager import brief
    from mmsb.plugin.records import ACTIVE

    for kind, name in record.offers if record.status == ACTIVE else ():
        spec = registry().find(kind, name)
        try:
            spec.resolve()  # commands and exporters act on the world: no more is tried of them
            if kind == "devices":
                answer = spec.make().can_run("apply_delta")
                if answer is not True:
                    yield f"the device {name} cannot apply deltas: {answer}"
            elif kind == "policies":
                spec.make()
            elif kind == "semirings":
                from mmsb.testing.laws import broken_laws

                for dtype in spec.dtypes:
                    yield from broken_laws(spec.make(dtype))
        except PluginError as error:
            yield error.message
        except Exception as error:
            yield f"the {spec.NOUN} {name} does not work: {brief(error)}"


@command.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What it brings.")
@click.option(
    "--into",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="The folder to make it in.",
)
def new(name: str, kind: str, into: Path) -> None:
    """Write the package of a new plugin into the folder NAME, with tests that pass."""
    folder = write_package(into, name, kind)
    click.echo(
        f"{folder} is made. Next: cd {folder} && pip install -e '.[test]' && pytest && mmsb plugins doctor {name}"
    )
