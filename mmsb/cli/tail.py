"""`mmsb tail`: the commits of a running owner, as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mmsb.cli.commits import COLUMNS, RIGHT, document, filter_options, page_id_of, row
from mmsb.cli.common import Place, served_argument
from mmsb.cli.output import json_option, print_json, printable
from mmsb.errors import BusyError, NotAStoreError, OwnerGoneError, RetentionError

if TYPE_CHECKING:
    from mmsb.history import Commit, Filter
    from mmsb.view import View

RETRY_SECONDS = 0.25
# Nothing is known of the rows to come, so columns begin as wide as most will be, and grow.
WIDTHS = {"seq": 7, "time (UTC)": 26, "source": 10, "label": 10, "bytes": 6}
INTERRUPTED = 130
NOT_YET = (OwnerGoneError, BusyError)


class Lines:
    """A table of which each row is printed when it comes."""

    def __init__(self, columns: Sequence[str], right: Sequence[str], widths: dict[str, int]) -> None:
        self.right = [name in right for name in columns]
        self.widths = [max(len(name), widths.get(name, 0)) for name in columns]
        self.print(columns)

    def print(self, cells: Sequence[object]) -> None:
        """Prints one row."""
        texts = ["" if cell is None else printable(cell) for cell in cells]
        self.widths = [max(width, len(text)) for width, text in zip(self.widths[:-1], texts, strict=False)] + [0]
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, self.widths, self.right, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


class Tail:
    """The commits of whoever serves STORE. `timeout`: seconds in which none may fit before it ends (None: for ever).
    `wait`: for an owner where there is none, and for the next one when it is gone.
    """

    def __init__(self, store: str, *, timeout: float | None, wait: bool) -> None:
        self.store, self.timeout, self.wait, self.gone = store, timeout, wait, False
        self.heard()

    def heard(self) -> None:
        """From now on the time counts anew."""
        self.deadline = None if self.timeout is None else time.monotonic() + self.timeout

    @property
    def left(self) -> float | None:
        """Seconds that are left, None for ever."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def attach(self) -> View | None:
        """A View; with `wait` once there is an owner. None when the time is over. Errors are those of mmsb.attach."""
        from mmsb.attaching import attach

        while True:
            try:
                return attach(self.store)
            except (*NOT_YET, NotAStoreError):
                if not self.wait:
                    raise
            if self.left == 0:
                return None
            time.sleep(RETRY_SECONDS)

    def reattach(self, view: View) -> bool:
        """Goes on with the next owner. False when the time is over."""
        while True:
            try:
                view.reattach()
            except NOT_YET:
                if self.left == 0:
                    return False
                time.sleep(RETRY_SECONDS)
            else:
                self.gone = False
                return True

    def commits(self, view: View, first: int, filter_for: Callable[[View], Filter]) -> Iterator[Commit]:
        """What fits, from seq `first` on. Says on stderr what ends it, or is missing."""
        while True:
            wanted = filter_for(view)  # of each owner anew: the same name may be another page
            uuid, follower, last = view.uuid, view.follow(first), None
            while True:
                follower.timeout = self.left
                if follower.timeout == 0 and last is None:
                    last = view.seq  # what was there in time is looked through, however long that takes
                try:
                    commit = next(follower, None)
                except RetentionError as error:
                    first_kept = error.facts["first_seq"]
                    say(f"Commits {follower.seq + 1} to {first_kept} are no longer kept; the rest follows.")
                    follower.seq = first_kept
                    continue
                except OwnerGoneError:
                    self.gone = True
                    break
                if commit is not None and wanted.fits(commit):
                    yield commit
                    self.heard()
                    last = None
                elif commit is None or (last is not None and follower.seq >= last):
                    return
            say(f"The owner of {self.store} (process {view.owner_pid}) is gone after commit {follower.seq}.")
            if not self.wait or not self.reattach(view):
                return
            say(f"Process {view.owner_pid} serves {self.store} now.")
            # What a dead owner had not made durable may be gone; a State in memory is another one.
            first = min(follower.seq, view.seq) + 1 if view.uuid == uuid else 1


def say(text: str) -> None:
    """For people, beside the output."""
    click.echo(printable(text), err=True)


def first_of(view: View, since: int | str | datetime | None) -> int:
    """The seq to begin with."""
    if since is None:
        return view.seq + 1
    if isinstance(since, int):
        return max(1, since)
    found = next(view.log(since=since), None)
    return view.seq + 1 if found is None else found.seq


@click.command("tail")
@served_argument
@filter_options
@click.option("--since", type=Place(), help="Begin there: a seq, a label or a time. [default: with the next commit]")
@click.option("--count", "-n", type=click.IntRange(min=1), metavar="N", help="Stop after N commits.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop when for so long there was no commit to print.",
)
@click.option("--wait", is_flag=True, help="Wait for an owner, and for the next one when it is gone.")
@json_option
def command(
    store: str,
    page: str | None,
    source: str | None,
    label: str | None,
    kind: str | None,
    since: int | str | datetime | None,
    count: int | None,
    timeout: float | None,
    wait: bool,
    wants_json: bool,
) -> None:
    """Print the commits of STORE as they come, while its owner serves it.

    STORE is the path of a store or the name of a State in memory. Ends when the owner is gone, which it says on stderr.
    With --json one document per line and commit. Exit status: 0, also when the owner is gone; 2 when fewer than N
    commits came; 130 after Ctrl-C.
    """
    from mmsb.history import filter_of

    def filter_for(view: View) -> Filter:
        return filter_of(None if page is None else page_id_of(view, page), source, label, kind)

    shown, tail = 0, Tail(store, timeout=timeout, wait=wait)
    try:
        view = tail.attach()
        if view is not None:
            with view:
                lines = None if wants_json else Lines(COLUMNS, RIGHT, WIDTHS)
                for commit in tail.commits(view, first_of(view, since), filter_for):
                    if lines is None:
                        print_json(document(commit))
                    else:
                        lines.print(row(commit))
                    shown += 1
                    if shown == count:
                        return
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    if view is None:
        raise BusyError(f"Nobody served {store} in time. Call state.serve() in its owner.")
    if count is not None:
        ended = OwnerGoneError if tail.gone else BusyError
        raise ended(f"{shown} of {count} commits came. Wait longer, or ask for fewer.")
