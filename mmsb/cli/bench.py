"""`mmsb bench`: the limits of this machine, and the share of each that mmsb reaches."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, TextIO

import click

from mmsb.cli.output import json_option, print_json, print_table, progress

if TYPE_CHECKING:
    from mmsb.cli.limits import Share

SECONDS = 3.0
BAR = 30  # characters
# Of the picture, in pixels.
ROW, LEFT, WIDTH, RIGHT = 34, 250, 420, 190


def human_time(seconds: float) -> str:
    """A duration for people, three digits: 12.3 ns, 4.56 us."""
    for unit, factor in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def per_second(share: Share) -> str:
    """How many units a second."""
    return f"{1 / share.ours_s:,.0f} {share.unit}s/s" if share.unit != "MiB" else f"{1 / share.ours_s:,.0f} MiB/s"


def picture(shares: Sequence[Share]) -> str:
    """An SVG document with a bar for each line."""
    height = ROW * (len(shares) + 1) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20">share of what the machine can do</text>',
    ]
    for place, share in enumerate(shares):
        top = ROW * (place + 1)
        filled = round(WIDTH * min(share.share, 1.0), 1)
        lines += [
            f'<text x="{LEFT - 8}" y="{top + 18}" text-anchor="end">{escape(share.name)}</text>',
            f'<rect x="{LEFT}" y="{top + 4}" width="{WIDTH}" height="20" fill="#e6eaee"/>',
            f'<rect x="{LEFT}" y="{top + 4}" width="{filled}" height="20" fill="#1f5f8b"/>',
            f'<text x="{LEFT + WIDTH + 8}" y="{top + 18}">{share.share:.0%} of {escape(share.limit)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


@click.command("bench")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, writable=True),
    help="Where stores are made for as long as it takes: on the disk that matters to you. Default: here.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 60),
    default=SECONDS,
    show_default=True,
    help="How long each line is measured.",
)
@click.option(
    "--picture",
    "target",
    type=click.File("w", encoding="utf-8", lazy=False),
    help="Write a picture (SVG) to this file.",
)
@json_option
def command(folder: str | None, seconds: float, target: TextIO | None, wants_json: bool) -> None:
    """Measure what this machine can do, and which share of it mmsb reaches.

    Each line is an operation of mmsb and what nothing on this machine can do it faster than: a copy of as many bytes, a
    bare call, a sync. Both are measured in turn; the fastest run of each counts. A SHARE over 100% means that mmsb
    touches less memory than the copy does.
    """
    from mmsb.cli.limits import LIMITS, measure

    shares = []
    with tempfile.TemporaryDirectory(prefix=".mmsb-bench-", dir=folder or ".") as place, progress("bench") as show:
        for done, limit in enumerate(LIMITS):
            show(done, len(LIMITS))
            shares.append(measure(limit, place, seconds))
    if target is not None:
        target.write(picture(shares))
    if wants_json:
        print_json([{**vars(share), "share": share.share} for share in shares])
        return
    print_table(
        ["operation", "takes", "that is", "limit", "takes ", "share", ""],
        [
            [
                share.name,
                human_time(share.ours_s),
                per_second(share),
                share.limit,
                human_time(share.limit_s),
                f"{share.share:.0%}",
                "█" * round(BAR * min(share.share, 1.0)),
            ]
            for share in shares
        ],
        right=["takes", "takes ", "that is", "share"],
    )
