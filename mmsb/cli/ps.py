"""`mmsb ps`: who owns what, and who is attached to it."""

from __future__ import annotations

import time
from typing import Any

import click

from mmsb.cli.common import interval_option
from mmsb.cli.output import human_bytes, human_rate, json_option, print_json, print_table, utc

NUMBERS = ["seq", "pages", "clients", "lag", "log", "kept", "rate", "commands", "failed", "pending"]
INTERVAL_S = 0.5


def rows(owner: dict[str, Any]) -> list[list[object]]:
    """One row for an owner, and one for each of its clients."""
    if owner.get("busy"):
        return [[owner["pid"], "(does not answer)", *[""] * len(NUMBERS)]]
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
            human_bytes(owner["log"]["bytes"]),
            human_bytes(owner["kept_bytes"]),
            human_rate(owner["commits_per_s"]),
            *[""] * 3,
        ]
    ]
    for client in clients:
        since = utc(int(client["attached"] * 1e9)) if client["attached"] else ""
        seen, lag = (client["seen_seq"], client["lag"]) if client["seen_seq"] else ("", "")
        waits = "waits" if client["waiting"] else "reads"
        ring = client["ring"]
        commands = [""] * 3 if ring is None else [ring["commands"], ring["failed"], human_bytes(ring["pending"])]
        rate = human_rate(client["commands_per_s"])
        title = f"  {waits} since {since}"
        table.append([client["pid"], title, seen, "", "", lag, "", "", rate, *commands])
    return table


@click.command("ps")
@interval_option(0, INTERVAL_S, "How long to look for rates; 0: one look, without rates.")
@json_option
def command(interval: float, wants_json: bool) -> None:
    """List the States that your processes serve, and their clients.

    SEQ is the newest commit, of a client the newest it has read or followed (none, of one that only writes); LAG is how
    many commits lie between. LOG is the log with its history; KEPT is freed memory that waits for a client to finish
    reading. RATE is commits per second, of a client commands per second. COMMANDS, FAILED and PENDING: what a client
    has asked for, how much of it was refused, and what waits in its ring.
    """
    from mmsb.owners import owners, rated

    found = owners()
    before = found if interval and found else []
    if before:
        time.sleep(interval)
        found = owners()
    found = rated(before, found)
    if wants_json:
        print_json(found)
        return
    print_table(
        ["pid", "state", *NUMBERS],
        [row for owner in found for row in rows(owner)],
        right=["pid", *NUMBERS],
    )
