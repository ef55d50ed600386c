"""`mmsb gc`: what dead owners left."""

from __future__ import annotations

import click

from mmsb.cli.output import json_option, print_json


@click.command("gc")
@click.option("--remove", is_flag=True, help="Remove them.")
@json_option
def command(remove: bool, wants_json: bool) -> None:
    """List the sockets that dead owners left; with --remove, remove them.

    Nothing else is left behind: memory goes with its last user, and a socket that is still there harms nobody.
    """
    from mmsb.owners import leftovers

    found = leftovers(remove=remove)
    if wants_json:
        print_json({"removed" if remove else "leftovers": found})
        return
    for key in found:
        click.echo(f"removed {key}" if remove else key)
    if not found:
        click.echo("nothing")
