"""Metadata of pages and commits: str to bytes, str, int, float or bool, in one canonical encoding.

The encoding is a varint count, then per entry in ascending order of the key's UTF-8 bytes: key length and key, a type
byte, value length and value. Equal metadata has equal bytes. docs/formats/metadata.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from mmsb._core.varint import Reader, put_text, put_varint
from mmsb.errors import MetadataError

Value = bytes | str | int | float | bool
BYTES, TEXT, INTEGER, FLOAT, BOOLEAN = range(1, 6)
METADATA_BYTES_MOST = 1 << 24


def encode_value(key: str, value: Any) -> tuple[int, bytes]:
    """(type byte, bytes) of one value. MetadataError for any other type."""
    if isinstance(value, bool):
        return BOOLEAN, bytes([value])
    if isinstance(value, int):
        return INTEGER, value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "little", signed=True)
    if isinstance(value, float):
        return FLOAT, struct.pack("<d", value)
    if isinstance(value, str):
        try:
            return TEXT, value.encode()
        except UnicodeEncodeError:
            raise MetadataError(f"The value of {key!r} has no UTF-8 form. Use ordinary text.", key=key) from None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return BYTES, bytes(value)
    raise MetadataError(
        f"The value of {key!r} is a {type(value).__name__}. Use bytes, str, int, float or bool.", key=key
    )


def encode(entries: Mapping[str, Any]) -> bytes:
    """The canonical bytes. MetadataError (key) when an entry cannot be stored."""
    if not isinstance(entries, Mapping):
        raise MetadataError(f"Metadata is a mapping, not a {type(entries).__name__}. Use a dict.", key=None)
    encoded = []
    for key, value in entries.items():
        if not isinstance(key, str) or not key:
            raise MetadataError(f"The key {key!r} is no text. Use non-empty strings.", key=key)
        try:
            encoded.append((key.encode(), *encode_value(key, value)))
        except UnicodeEncodeError:
            raise MetadataError(f"The key {key!r} has no UTF-8 form. Use ordinary text.", key=key) from None
    out = bytearray()
    put_varint(out, len(encoded))
    for name, kind, content in sorted(encoded):
        put_text(out, name)
        out.append(kind)
        put_text(out, content)
    if len(out) > METADATA_BYTES_MOST:
        raise MetadataError(
            f"The metadata has {len(out)} bytes, more than {METADATA_BYTES_MOST}. Keep large things in pages.", key=None
        )
    return bytes(out)


def decode_value(kind: int, content: bytes) -> Value:
    """The value of (type byte, bytes). ValueError when they do not fit."""
    if kind == BYTES:
        return content
    if kind == TEXT:
        return content.decode()
    if kind == INTEGER:
        value = int.from_bytes(content, "little", signed=True)
        if not content or encode_value("", value)[1] != content:
            raise ValueError("not the shortest form")
        return value
    if kind == FLOAT and len(content) == 8:
        return float(struct.unpack("<d", content)[0])
    if kind == BOOLEAN and content in (b"\0", b"\1"):
        return content == b"\1"
    raise ValueError("unknown type")


def decode(data: bytes) -> dict[str, Value]:
    """The entries, keys ascending. MetadataError when the bytes are not exactly what encode() writes."""
    if not data:
        return {}
    reader = Reader(data)
    entries: dict[str, Value] = {}
    last = b""
    for _ in range(reader.number()):
        at = reader.at
        name = reader.text()
        if name <= last:
            raise MetadataError(f"The metadata is malformed at byte {at}. It was not written by mmsb.", offset=at)
        kind = reader.take(1)[0]
        at = reader.at
        content = reader.text()
        try:
            entries[name.decode()] = decode_value(kind, content)
        except ValueError as error:
            raise MetadataError(
                f"The metadata is malformed at byte {at} ({error}). It was not written by mmsb.", offset=at
            ) from None
        last = name
    if reader.left:
        raise MetadataError(f"The metadata goes on after its end at byte {reader.at}.", offset=reader.at)
    return entries


@lru_cache(maxsize=256)
def frozen(data: bytes | None) -> Mapping[str, Value]:
    """A read-only mapping of encoded metadata; empty for None."""
    return MappingProxyType(decode(data) if data else {})
