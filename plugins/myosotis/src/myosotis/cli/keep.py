"""`myo verify`, `recover`, `compact`: soundness of a memory, and its size."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from mmsb.cli.common import Place
from mmsb.cli.output import human_count, json_option, print_json, printable
from myosotis.cli.common import absent, file_option, open_memory
from myosotis.errors import MyosotisError
from myosotis.folding import Journal, write_aside
from myosotis.v1 import Document, read_bytes
from myosotis.v1_repair import Report, examine


@click.command("verify")
@file_option
@json_option
def verify_command(path: str, wants_json: bool) -> None:
    """Check everything: the file, the chain of hashes, that the history gives the graph. Exit status 1: a fault.

    Names the first bad record, and what survives.
    """
    report = report_of(path) if Path(path).is_file() else None
    facts: dict[str, Any] = {"file": path, "ok": True, "sentence": "", "first_bad": None, "misread": 0}
    if report is not None:
        facts |= {
            "ok": report.ok,
            "sentence": report.sentence(),
            "first_bad": report.first_bad,
            "misread": report.misread,
        }
    if report is None or report.ok:
        with open_memory(path, read_only=True) as memory:
            verification = memory.verify()
        facts |= {"ok": verification.ok, "sentence": verification.sentence(), "first_bad": verification.first_bad}
    if wants_json:
        print_json(facts)
    else:
        click.echo(f"{printable(path)}: {printable(facts['sentence'])}")
        if facts["misread"]:
            numbers = human_count(facts["misread"], "number")
            click.echo(f"The first engine would refuse this file: it reads {numbers} as another.")
    click.get_current_context().exit(0 if facts["ok"] else 1)


def report_of(path: str) -> Report:
    """What is sound in a v1 file. UnreadableFileError."""
    return examine(read_bytes(path))


@click.command("recover")
@click.option("-o", "--output", type=click.Path(), help="Where to. [default: FILE.recovered.myo]")
@file_option
@json_option
def recover_command(output: str | None, path: str, wants_json: bool) -> None:
    """Write what is sound of a damaged file of format v1, or of its journal if that has more, to a new one.

    The damaged one stays as it is.
    """
    from myosotis import v1

    if Path(path).is_dir():
        raise click.UsageError(f"{path} is a store of mmsb: `mmsb salvage {path} OUT` saves what is intact.")
    target = output or f"{path.removesuffix('.myo')}.recovered.myo"
    absent(target)
    report = report_of(path)
    survivors, source = report.survivors, "the file"
    kept = journal_of(path)
    if kept is not None and len(kept.commits) > len(survivors.commits):
        survivors, source = kept, "its journal"
    write_aside(target, v1.write(survivors))
    count = len(survivors.commits)
    if wants_json:
        facts = {"file": path, "output": target, "commits": count, "source": source}
        print_json({**facts, "ok": report.ok, "first_bad": report.first_bad})
    else:
        click.echo(printable(report.sentence()))
        click.echo(f"Recovered {human_count(count, 'commit')} from {source} to {printable(target)}")


def journal_of(path: str) -> Document | None:
    """The memory in the journal beside a file; None when there is none, or none that is sound."""
    from myosotis.memory import Memory

    journal = Journal(path)
    try:
        if journal.read() is None:
            return None
        with Memory.open(journal.log_path, read_only=True) as memory:
            return memory.document() if memory.verify().ok else None
    except MyosotisError:
        return None


@click.command("compact")
@click.option("--at", type=Place(), help="The last commit to fold. [default: the latest]")
@file_option
@json_option
def compact_command(at: int | str | datetime | None, path: str, wants_json: bool) -> None:
    """Fold the history up to a commit into the state that it begins with; the graph stays as it is."""
    with open_memory(path) as memory:
        memory.compact(at)
        commits = len(memory.commits())
    if wants_json:
        print_json({"file": path, "commits": commits})
    else:
        click.echo(f"Compacted log in {printable(path)}")
