"""A history whose prefixes all differ: what each commit does follows from dice and from what there is."""

from __future__ import annotations

import random
from typing import Any

import mmsb

NAMES = [f"page {n}" for n in range(8)]
Pages = dict[str, bytes]


def step(dice: random.Random, pages: Pages) -> tuple[list[tuple[str, str, Any]], Pages]:
    """What one commit does, and the pages after it."""
    after, changes = dict(pages), []
    for name in dice.sample(NAMES, dice.randrange(1, 4)):
        choice, old = dice.random(), pages.get(name)
        if old is None:
            changes.append((name, "create", dice.randbytes(dice.choice((1, 60, 700, 5000)))))
            after[name] = changes[-1][2]
        elif choice < 0.06:
            changes.append((name, "delete", None))
            del after[name]
        elif choice < 0.12:
            changes.append((name, "resize", dice.randrange(1, 3000)))
            after[name] = old[: changes[-1][2]].ljust(changes[-1][2], b"\0")
        else:
            at = dice.randrange(len(old))
            data = dice.randbytes(dice.randrange(1, min(len(old) - at, dice.choice((30, 900))) + 1))
            changes.append((name, "write", (at, data)))
            after[name] = old[:at] + data + old[at + len(data) :]
    return changes, after


def commit(state: mmsb.State, changes: list[tuple[str, str, Any]], durability: str | None = None) -> None:
    """Does a step."""
    with state.batch(durability=durability, source="writer", label=f"step {state.seq + 1}") as batch:
        for name, what, value in changes:
            if what == "create":
                batch.create_page(name=name, data=value)
            elif what == "delete":
                batch.delete_page(name)
            elif what == "resize":
                batch.resize(name, value)
            else:
                batch.write(name, value[1], at=value[0])


def pages_of(state: Any) -> Pages:
    """What a State (or a past one) holds."""
    return {page.name: page.read() for page in state.pages()}
