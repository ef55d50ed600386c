"""Who owns what: the States that this user's processes serve, and what dead ones left."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

from mmsb import messages
from mmsb.errors import MMSBError
from mmsb.rendezvous import Directory, credentials, dial, dial_key

ANSWER_SECONDS = 2.0


def owners() -> list[dict[str, Any]]:
    """Each owner that serves, as it describes itself (Server.status), sorted by its socket's name.

    One that does not answer in time is {"pid": ..., "busy": True}. AttachError where the sockets cannot be trusted.
    """
    found: dict[Any, dict[str, Any]] = {}
    with suppress(FileNotFoundError), Directory(create=False) as directory:
        for key in directory.keys():
            with suppress(OSError):
                connection = dial(directory, key)
                if connection is not None:
                    facts = ask(connection)
                    # A stored State with a name has two sockets.
                    found.setdefault((facts["pid"], facts.get("uuid", key)), facts)
    return list(found.values())


def owner_of(key: str) -> dict[str, Any] | None:
    """What the owner that serves a key says of itself, None when there is none. AttachError, OSError."""
    connection = dial_key(key)
    return None if connection is None else ask(connection)


def rated(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The owners of a second look, with what happened per second since the first: `commits_per_s` of an owner,
    `log_bytes_per_s` of its log (not below 0: history may have been dropped), `commands_per_s` of a client. None where
    the first look does not tell. The time is the owner's own.
    """
    known = {(owner["pid"], owner["uuid"]): owner for owner in before if not owner.get("busy")}
    return [
        owner if owner.get("busy") else rated_owner(known.get((owner["pid"], owner["uuid"])), owner) for owner in after
    ]


def rated_owner(before: dict[str, Any] | None, owner: dict[str, Any]) -> dict[str, Any]:
    """One owner, with its rates."""
    seconds = 0.0 if before is None else owner["seconds"] - before["seconds"]
    if before is None or seconds <= 0:
        nothing = [{**client, "commands_per_s": None} for client in owner["clients"]]
        return {**owner, "commits_per_s": None, "log_bytes_per_s": None, "clients": nothing}
    rings = {client["number"]: client["ring"] for client in before["clients"]}
    clients = []
    for client in owner["clients"]:
        per_s = None
        if client["ring"] is not None and client["number"] in rings:
            first = rings[client["number"]]
            per_s = (client["ring"]["commands"] - (0 if first is None else first["commands"])) / seconds
        clients.append({**client, "commands_per_s": per_s})
    return {
        **owner,
        "commits_per_s": (owner["seq"] - before["seq"]) / seconds,
        "log_bytes_per_s": max(0, owner["log"]["bytes"] - before["log"]["bytes"]) / seconds,
        "clients": clients,
    }


def ask(connection: socket.socket) -> dict[str, Any]:
    """What an owner says of itself. Closes the connection."""
    with connection:
        pid, _ = credentials(connection)
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.send(messages.header(messages.STATUS))
            header, body = messages.split(connection.recv(messages.MESSAGE_BYTES_MOST))
            facts = json.loads(body) if header.kind == messages.STATUS else None
            if isinstance(facts, dict) and facts.get("pid") == pid:
                return facts
        except (OSError, MMSBError, ValueError):
            pass
        return {"pid": pid, "busy": True}


def leftovers(*, remove: bool = False) -> list[str]:
    """Names of the sockets whose owners are dead, sorted; with `remove` they are gone afterwards."""
    found: list[str] = []
    with suppress(FileNotFoundError), Directory(create=False) as directory, directory.alone():
        for key in directory.keys():
            connection = dial(directory, key)
            if connection is not None:
                connection.close()
                continue
            found.append(key)
            if remove:
                directory.remove(key)
    return found
