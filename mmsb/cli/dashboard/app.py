"""The dashboard of `mmsb top` in a terminal. All that is counted comes from Watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Sparkline, Static

from mmsb.cli.dashboard.watch import Listed, Picture, Watch
from mmsb.cli.output import human_bytes, human_bytes_rate, human_count, human_rate, printable
from mmsb.errors import MMSBError

BAR_CELLS = 12
EIGHTHS = " ▏▎▍▌▋▊▉"
COLD, WARM, HOT = "#4c78a8", "#eeb33f", "#e45756"
FAILING_SHOWN = 4
# A terminal with fewer lines gets lower panels.
SHORT_LINES = 30
SORTS: dict[str, Callable[[Listed], Any]] = {
    "heat": lambda page: (-page.heat, page.page_id),
    "changes/s": lambda page: (-page.changes_per_s, page.page_id),
    "bytes/s": lambda page: (-page.bytes_per_s, page.page_id),
    "last seq": lambda page: (-page.last_seq, page.page_id),
    "page": lambda page: page.page_id,
}
PAGE_COLUMNS = ("page", "name", "heat", "changes/s", "bytes/s", "size", "last seq")
CLIENT_COLUMNS = ("pid", "client", "seen seq", "lag", "commands", "commands/s", "failed", "in ring")
HELP = """\
[b]Pages by heat[/b]   pages that changed lately; heat is bytes per second,
                where ten seconds ago counts half
[b]Propagation[/b]     waves: what was computed because a parent changed.
                Stale pages are not up to date with their parents
[b]Clients[/b]         who is attached, how many commits behind its last read
                or followed commit is, and what it asked for
[b]Log[/b]             what commits add to it, and what is kept of it

[b]s[/b] sort by the next column   [b]p[/b] pause and go on
[b]q[/b] quit                      [b]?[/b] this help"""


def bar(share: float) -> Text:
    """A bar of `share` of its length, in eighths of a cell, redder the longer."""
    full, part = divmod(round(share * BAR_CELLS * 8), 8)
    colour = HOT if share > 2 / 3 else WARM if share > 1 / 3 else COLD
    return Text(("█" * full + EIGHTHS[part]).strip().ljust(BAR_CELLS), style=colour)


def right(value: object) -> Text:
    """A cell of numbers."""
    return Text(str(value), justify="right")


class HelpScreen(ModalScreen[None]):
    """What the panels mean."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,escape,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """One box in the middle."""
        box = Static(HELP, id="help")
        box.border_title, box.border_subtitle = "mmsb top", "escape closes"
        yield box


class Dashboard(App[None]):
    """Looks every `interval` seconds and shows what it saw. `failure`: the error that ended it."""

    TITLE = "mmsb top"
    ENABLE_COMMAND_PALETTE = False
    VERTICAL_BREAKPOINTS = [(0, "short"), (SHORT_LINES, "tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("s", "sort", "Sort"),
        Binding("p", "pause", "Pause"),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]
    CSS = """
    #title { height: 1; padding: 0 2; background: $panel; }
    #title.gone { background: $error-darken-2; color: $text; }
    .box { border: round $primary; border-title-color: $text; border-title-style: bold; padding: 0 1; }
    #rates { height: 5; }
    #rates > .box { width: 1fr; height: 5; }
    .number { height: 1; }
    Sparkline { height: 2; }
    #middle { height: 1fr; }
    #pages { width: 1fr; height: 1fr; }
    #waves { width: 34; height: 1fr; }
    #clients { height: auto; min-height: 4; max-height: 11; }
    DataTable { height: 1fr; background: transparent; }
    #clients DataTable { height: auto; max-height: 9; }
    .short #rates, .short #rates > .box { height: 4; }
    .short Sparkline { height: 1; }
    .short #clients { max-height: 7; }
    .short #clients DataTable { max-height: 5; }
    HelpScreen { align: center middle; }
    #help { width: 76; height: auto; border: round $accent; background: $surface; padding: 1 2; }
    """

    def __init__(self, watch: Watch, interval: float) -> None:
        super().__init__()
        self.watched, self.interval = watch, interval
        self.picture: Picture | None = None
        self.looks = 0
        self.sort = "heat"
        self.paused = False
        self.failure: MMSBError | None = None

    # ---- what there is

    def compose(self) -> ComposeResult:
        """The panels."""
        yield Static(id="title")
        with Horizontal(id="rates"):
            yield from self.rate("Commits", "commits")
            yield from self.rate("Log", "log")
        with Horizontal(id="middle"):
            with Vertical(id="pages", classes="box"):
                yield DataTable[Any](cursor_type="none")
            with Vertical(id="waves", classes="box") as waves:
                waves.border_title = "Propagation"
                yield Static()
        with Vertical(id="clients", classes="box") as clients:
            clients.border_title = "Clients"
            yield DataTable[Any](cursor_type="none")
        yield Footer()

    def rate(self, title: str, name: str) -> ComposeResult:
        """A number with its history."""
        with Vertical(id=name, classes="box") as box:
            box.border_title = title
            yield Static(classes="number")
            yield Sparkline([0], min_color=COLD, max_color=WARM, summary_function=max)

    def on_mount(self) -> None:
        """Begins to look."""
        self.query_one("#pages DataTable", DataTable).add_columns(*map(self.heading, PAGE_COLUMNS))
        self.query_one("#clients DataTable", DataTable).add_columns(*map(self.heading, CLIENT_COLUMNS))
        self.query_one("#title", Static).update(Text(f"{printable(self.watched.title)}   looking ..."))
        self.run_worker(self.keep_looking())

    def heading(self, name: str) -> Text:
        """The heading of a column, over its numbers."""
        return Text(name, justify="left" if name in ("name", "heat", "client") else "right")

    async def keep_looking(self) -> None:
        """Looks, in a thread, so that keys are heard meanwhile."""
        while True:
            await asyncio.sleep(self.interval)
            try:
                picture = await asyncio.to_thread(self.watched.look)
            except MMSBError as error:
                self.failure = error
                self.exit()
                return
            self.looks += 1
            if not self.paused:
                self.picture = picture
                with suppress(NoMatches, IndexError):  # when it is closed, the panels go before this does
                    self.draw()

    # ---- keys

    def action_sort(self) -> None:
        """By the next column."""
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]
        self.draw()

    def action_pause(self) -> None:
        """Stands still, or goes on with the next look; what happens meanwhile is counted."""
        self.paused = not self.paused
        self.draw()

    def action_help(self) -> None:
        """Says what the panels mean."""
        self.push_screen(HelpScreen())

    # ---- drawing

    def draw(self) -> None:
        """Shows what was seen last."""
        picture = self.picture
        if picture is None:
            return
        self.draw_title(picture)
        sample = picture.sample
        owner = picture.owner
        kept = ""
        if owner is not None:
            kept = f", {human_bytes(owner['log']['bytes'])} in {human_count(owner['log']['segments'], 'segment')}"
        looked = "" if sample.looked_at == 1 else f"   [yellow]{sample.looked_at:.0%} of them looked at[/yellow]"
        self.draw_rate("commits", f"{human_rate(sample.commits_per_s)}{looked}", sample.commits_history)
        self.draw_rate("log", f"{human_bytes_rate(sample.log_bytes_per_s)}{kept}", sample.log_history)
        self.draw_pages(picture)
        self.draw_waves(picture)
        self.draw_clients(picture)

    def draw_title(self, picture: Picture) -> None:
        """Who is looked at, and whether it is there."""
        title = self.screen_stack[0].query_one("#title", Static)
        title.set_class(not picture.alive, "gone")
        life = "[green]●[/green] alive" if picture.alive else "✖ gone: this is what was seen last"
        owner = Text(printable(picture.title), style="bold")
        facts = f"   owner {picture.owner_pid} {life}   seq {picture.seq:,}"
        if picture.path is not None:
            facts += f" (durable to {picture.durable_seq:,})"
        facts += f"   {human_count(picture.pages, 'page')}" + ("   [reverse] paused [/reverse]" if self.paused else "")
        title.update(Text.assemble(owner, Text.from_markup(facts)))

    def draw_rate(self, name: str, number: str, history: tuple[float, ...]) -> None:
        """A number with its history."""
        box = self.screen_stack[0].query_one(f"#{name}")
        box.query_one(".number", Static).update(number)
        box.query_one(Sparkline).data = history

    def draw_pages(self, picture: Picture) -> None:
        """The table of pages; it stays where it was scrolled to."""
        box = self.screen_stack[0].query_one("#pages")
        box.border_title = f"Pages by {self.sort}"
        table = box.query_one(DataTable)
        place = table.scroll_offset
        table.clear()
        most = max((page.heat for page in picture.listed), default=0.0)
        for page in sorted(picture.listed, key=SORTS[self.sort]):
            table.add_row(
                right(page.page_id),
                Text(printable(page.name or "")),
                bar(page.heat / most),
                right(human_rate(page.changes_per_s)),
                right(human_bytes_rate(page.bytes_per_s)),
                right(human_bytes(page.size)),
                right(f"{page.last_seq:,}"),
            )
        table.scroll_to(place.x, place.y, animate=False)
        box.border_subtitle = "" if picture.listed else "no page changed lately"

    def draw_waves(self, picture: Picture) -> None:
        """What propagates."""
        waves = picture.sample.waves
        text = Text()
        for name, value in (
            ("waves", human_rate(waves.per_s)),
            ("pages computed", human_rate(waves.pages_per_s)),
            ("pages per wave", "-" if waves.pages_per_wave is None else f"{waves.pages_per_wave:.3g}"),
            ("most in one", f"{waves.pages_most:,}"),
            ("stale pages", "not counted" if picture.stale is None else f"{picture.stale:,}"),
            ("failing pages", f"{len(waves.failing):,}"),
        ):
            text.append(f"{name:<15}", "dim").append(f"{value:>13}\n", "yellow" if wants_care(name, value) else "")
        for page_id, title, reason in picture.failing[:FAILING_SHOWN]:
            text.append(f"\n{page_id} {printable(title or '')}", "bold")
            text.append(f"\n{printable(reason or 'what it depends on failed')}", "yellow")
        self.screen_stack[0].query_one("#waves Static", Static).update(text)

    def draw_clients(self, picture: Picture) -> None:
        """The table of clients."""
        box = self.screen_stack[0].query_one("#clients")
        table = box.query_one(DataTable)
        table.clear()
        owner = picture.owner
        box.border_subtitle = "the owner does not answer" if owner is None else f"at most {owner['clients_most']}"
        for client in [] if owner is None else owner["clients"]:
            mine = client["pid"] == picture.me
            ring, seen = client["ring"], client["seen_seq"]
            asked = [""] * 4
            if ring is not None:
                rate = human_rate(client["commands_per_s"])
                asked = [f"{ring['commands']:,}", rate, f"{ring['failed']:,}", human_bytes(ring["pending"])]
            reads = [f"{seen:,}", f"{client['lag']:,}"] if seen else [""] * 2
            does = Text("this dashboard", style="dim") if mine else Text(what_it_does(client))
            table.add_row(right(client["pid"]), does, *map(right, [*reads, *asked]))


def what_it_does(client: dict[str, Any]) -> str:
    """What is known of a client, in a word."""
    if client["waiting"]:
        return "follows"
    if client["seen_seq"]:
        return "reads"
    return "looks on" if client["ring"] is None else "writes"


def wants_care(name: str, value: str) -> bool:
    """Whether a number of the propagation is one to look at."""
    return name in ("stale pages", "failing pages") and value != "0"


def screenshot(dashboard: Dashboard, file: Path, looks: int, size: tuple[int, int]) -> None:
    """Runs a dashboard without a terminal, and writes a picture (SVG) of it after so many looks."""

    async def wait_and_write(pilot: Pilot[None]) -> None:
        while dashboard.looks < looks and dashboard.failure is None:
            await pilot.pause(dashboard.interval / 4)
        file.write_text(dashboard.export_screenshot())
        dashboard.exit()

    dashboard.run(headless=True, size=size, auto_pilot=wait_and_write)  # type: ignore[arg-type]
