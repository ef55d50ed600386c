"""`mmsb checkpoint`: writes a checkpoint, so that opening and time travel get faster."""

from __future__ import annotations

import time

import click

from mmsb.cli.common import open_store, store_argument
from mmsb.cli.output import json_option, print_json


@click.command("checkpoint")
@store_argument
@json_option
def command(store: str, wants_json: bool) -> None:
    """Write a checkpoint of STORE at its head.

    Needs the store for itself.
    """
    begin_ns = time.monotonic_ns()
    with open_store(store, read_only=False) as state:
        state.checkpoint()
        seq = state.seq
    duration_ns = time.monotonic_ns() - begin_ns
    if wants_json:
        print_json({"store": store, "seq": seq, "duration_ns": duration_ns})
    else:
        click.echo(f"{store}: checkpoint at seq {seq} in {duration_ns / 1e9:.3f} s")
