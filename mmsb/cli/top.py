"""`mmsb top`: a dashboard of a running owner."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmsb.cli.common import interval_option, served_argument
from mmsb.cli.output import (
    human_bytes,
    human_bytes_rate,
    human_count,
    human_rate,
    json_option,
    print_facts,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from mmsb.cli.dashboard.watch import Picture

INTERVAL_S = 1.0
SCREENSHOT_LOOKS = 10
SCREENSHOT_CELLS = (120, 32)
ROWS = 20


def show_once(picture: Picture) -> None:
    """One picture as text."""
    sample, owner = picture.sample, picture.owner
    waves = sample.waves
    log = human_bytes_rate(sample.log_bytes_per_s)
    if owner is not None:
        log += f", {human_bytes(owner['log']['bytes'])} in {human_count(owner['log']['segments'], 'segment')}"
    print_facts(
        [
            ("state", picture.title),
            ("owner", f"{picture.owner_pid} ({'alive' if picture.alive else 'gone'})"),
            ("seq", f"{picture.seq} (durable to {picture.durable_seq})"),
            ("commits", human_rate(sample.commits_per_s)),
            ("looked at", f"{sample.looked_at:.0%}"),
            ("log", log),
            ("waves", human_rate(waves.per_s)),
            ("pages computed", human_rate(waves.pages_per_s)),
            ("pages per wave", "" if waves.pages_per_wave is None else f"{waves.pages_per_wave:.3g}"),
            ("stale pages", "not counted" if picture.stale is None else picture.stale),
            ("failing pages", len(waves.failing)),
        ]
    )
    click.echo()
    columns = ("page", "name", "size", "changes/s", "bytes/s", "last seq")
    rows = (
        (
            page.page_id,
            page.name,
            human_bytes(page.size),
            human_rate(page.changes_per_s),
            human_bytes_rate(page.bytes_per_s),
            page.last_seq,
        )
        for page in picture.listed[:ROWS]
    )
    if not print_table(columns, rows, right=set(columns) - {"name"}):
        click.echo("no page changed")


@click.command("top")
@served_argument
@interval_option(0.05, INTERVAL_S, "How often to look.")
@click.option("--once", is_flag=True, help="Print what happened in one interval, and end.")
@click.option(
    "--screenshot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write a picture (SVG) of the dashboard, and end.",
)
@click.option(
    "--looks",
    type=click.IntRange(min=1),
    default=SCREENSHOT_LOOKS,
    show_default=True,
    metavar="N",
    help="How often to look before --screenshot.",
)
@json_option
def command(store: str, interval: float, once: bool, screenshot: Path | None, looks: int, wants_json: bool) -> None:
    """Watch what happens to STORE: the pages that change, waves, clients and the log.

    STORE is the path of a store or the name of a State in memory, which its owner serves. The dashboard needs textual;
    --once and --json (one document) do not. Keys: s sorts, p pauses, ? helps, q quits. When the owner is gone it says
    so, keeps what was seen last, and goes on with the next owner.
    """
    from mmsb.cli.dashboard.watch import Watch

    if once or wants_json:
        with closing(Watch(store, budget_s=interval)) as watch:
            time.sleep(interval)
            picture = watch.look()
        if wants_json:
            print_json(picture.document())
        else:
            show_once(picture)
        return
    try:
        from mmsb.cli.dashboard import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise click.UsageError("The dashboard needs textual: pip install 'mmsb[top]'. Or use --once.") from error
    if screenshot is None and not sys.stdout.isatty():
        raise click.UsageError("The dashboard needs a terminal. Use --once, --json or --screenshot.")
    with closing(Watch(store, budget_s=interval / 2)) as watch:
        dashboard = app.Dashboard(watch, interval)
        if screenshot is None:
            dashboard.run()
        else:
            app.screenshot(dashboard, screenshot, looks, SCREENSHOT_CELLS)
    if dashboard.failure is not None:
        raise dashboard.failure
    if dashboard.return_code:
        raise click.exceptions.Exit(dashboard.return_code)
