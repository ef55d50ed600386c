"""Rights: what the client of another process may change, as its owner says it in State.serve(commands=)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsb.state import State

EVERYTHING: Mapping[str, Any] = {"pages": "all", "create": True, "delete": True}


def checked(given: Any) -> Mapping[str, Any] | None:
    """What True, False, None or a mapping allows: a mapping, or None when no command is taken. TypeError."""
    if given is None or isinstance(given, bool):
        return EVERYTHING if given else None
    if not isinstance(given, Mapping) or given.keys() - EVERYTHING.keys():
        raise TypeError(f"Rights are True, False or a mapping with the keys {', '.join(EVERYTHING)}, not {given!r}.")
    return given


def parts(state: State, allowed: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of RingSlot.allow(); what is not named is not allowed. PageNotFoundError."""
    pages = allowed.get("pages", ())
    return {
        "pages": "all" if pages == "all" else [state.page_id_of(page) for page in pages],
        "create": bool(allowed.get("create", False)),
        "delete": bool(allowed.get("delete", False)),
    }
