"""Exceptions as bytes: how the owner tells a client why a command was refused. docs/formats/commands.md.

Loading runs no code: a name is looked up among the errors of mmsb and a few built-in ones, and what is none becomes
plain text.
"""

from __future__ import annotations

import builtins
from typing import Any

from mmsb import errors
from mmsb._core.delta import Delta
from mmsb._core.ring import FACTS_MAX, delta_from_payload
from mmsb._core.varint import Reader, put_text, put_varint
from mmsb.metadata import decode_value, encode_value

NONE, SEQUENCE, DELTA = 0, 6, 7
# Exceptions that are not mmsb's own, as a local call raises them.
BUILT_IN = ("TypeError", "ValueError", "OverflowError", "MemoryError", "RuntimeError", "OSError")


def _put(out: bytearray, value: Any) -> None:
    if value is None:
        out.append(NONE)
    elif isinstance(value, (list, tuple)):
        out.append(SEQUENCE)
        put_varint(out, len(value))
        for one in value:
            _put(out, one)
    elif isinstance(value, Delta):
        out.append(DELTA)
        epoch, about = value.epoch, (value.page_id, value.code, value.payload, value.seq, value.index)
        _put(out, (*about, epoch, value.source, value.timestamp_ns))
    else:
        if not isinstance(value, (bytes, str, int, float)):
            value = str(value)
        kind, content = encode_value("", value)
        out.append(kind)
        put_text(out, content)


def _get(reader: Reader) -> Any:
    kind = reader.take(1)[0]
    if kind == NONE:
        return None
    if kind == SEQUENCE:
        return [_get(reader) for _ in range(reader.number())]
    if kind == DELTA:
        return delta_from_payload(*_get(reader))
    return decode_value(kind, reader.text())


def _parts(error: BaseException) -> tuple[str, str, dict[str, Any]]:
    kind = type(error)
    if isinstance(error, errors.MMSBError):
        return kind.__name__, error.message, dict(error.facts)
    if kind.__name__ in BUILT_IN and kind.__module__ == "builtins":
        return kind.__name__, str(error), {}
    return "RuntimeError", errors.described(error), {}


def encode(error: BaseException) -> bytes:
    """The facts of a completion. Sequences are cut, and the message as well, where there is no room for all of them."""
    name, message, facts = _parts(error)
    while True:
        out = bytearray()
        put_text(out, name.encode())
        put_text(out, message.encode(errors="replace"))
        put_varint(out, len(facts))
        for key, value in facts.items():
            put_text(out, key.encode())
            _put(out, value)
        if len(out) <= FACTS_MAX:
            return bytes(out)
        longest = max(
            (key for key in facts if isinstance(facts[key], (list, tuple)) and facts[key]),
            key=lambda key: len(facts[key]),
            default=None,
        )
        if longest is not None:
            facts[longest] = facts[longest][: len(facts[longest]) // 2]
        else:
            message = message[: len(message) // 2]
            facts = {key: value if len(str(value)) < 100 else str(value)[:100] for key, value in facts.items()}


def decode(facts: bytes) -> Exception:
    """The exception of a refused command, as the local call would have raised it."""
    if not facts:
        return errors.CommandError(
            "The owner was interrupted in the middle of the command, which may be done.", reason="interrupted"
        )
    reader = Reader(facts)
    name, message = reader.text().decode(), reader.text().decode()
    known = {reader.text().decode(): _get(reader) for _ in range(reader.number())}
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, errors.MMSBError):
        for key, value in known.items():
            if key == "overlaps":
                known[key] = [tuple(one) for one in value]
        return found(message, **known)
    kind = getattr(builtins, name) if name in BUILT_IN else RuntimeError
    error: Exception = kind(message)
    return error
