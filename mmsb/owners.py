"""Who owns what: the States that this user's processes serve, and what dead ones left."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

from mmsb import messages
from mmsb.errors import MMSBError
from mmsb.rendezvous import Directory, credentials, dial

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
