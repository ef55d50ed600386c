"""`mmsb ps`: who owns what, and who is attached to it."""

from __future__ import annotations

from typing import Any

import click

from mmsb.cli.output import human_bytes, json_option, print_json, print_table, utc

NUMBERS = ["seq", "pages", "clients", "lag", "kept", "commands", "failed", "pending"]


def rows(owner: dict[str, Any]) -> list[list[object]]:
    """One row for an owner, and one for each of its clients."""
    if owner.get("busy"):
        return [[owner["pid"], "(does not answer)", *[""] * 8]]
    title = owner["path"] or owner["name"]
    clients = owner["clients"]
    table: list[list[object]] = [
        [
            owner["pid"],
            title,
            owner["seq"],
            owner["pages"],
            f"{len(clients)}/{owner['clients_most']}",
            "",
            human_bytes(owner["kept_bytes"]),
            *[""] * 3,
        ]
    ]
    for client in clients:
        since = utc(int(client["attached"] * 1e9)) if client["attached"] else ""
        waits = "waits" if client["waiting"] else "reads"
        ring = client["ring"]
        commands = [""] * 3 if ring is None else [ring["commands"], ring["failed"], human_bytes(ring["pending"])]
        table.append(
            [client["pid"], f"  {waits} since {since}", client["seen_seq"], "", "", client["lag"], "", *commands]
        )
    return table


@click.command("ps")
@json_option
def command(wants_json: bool) -> None:
    """List the States that your processes serve, and their clients.

    SEQ is the newest commit, of a client the newest it has read; LAG is how many commits lie between. KEPT is freed
    memory that waits for a client to finish reading. COMMANDS, FAILED and PENDING: what a client has asked for, how
    much of it was refused, and what waits in its ring.
    """
    from mmsb.owners import owners

    found = owners()
    if wants_json:
        print_json(found)
        return
    print_table(
        ["pid", "state", *NUMBERS],
        [row for owner in found for row in rows(owner)],
        right=["pid", *NUMBERS],
    )
