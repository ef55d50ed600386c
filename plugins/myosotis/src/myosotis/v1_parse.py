"""From the bytes of a v1 file to its parts, two ways: what the first engine wrote is scanned, any other text is parsed.

Seven tenths of a file are hashes, a number a line. The scanner knows where they begin and end and turns them into
bytes by a table; it leaves values to the JSON parser. It gives up at whatever it does not expect: the parser decides.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from myosotis import v1_shape as shape
from myosotis.chain import NO_PARENT, commit_hash
from myosotis.errors import (
    InvalidFileMagicError,
    MalformedFileStructureError,
    MissingFormatVersionError,
    UnreadableFileError,
    UnsupportedFormatVersionError,
)
from myosotis.graph import Graph
from myosotis.mutations import Mutation, SetField, encode_all
from myosotis.values import Value

MAGIC = "MYOSOTIS"
VERSION = 1


@dataclass(slots=True)
class Link:
    """A commit as the file has it. `content_hash`: the hash that its content gives."""

    id: int
    parent: int | None
    parent_hash: bytes | None
    hash: bytes
    message: str | None
    mutations: tuple[Mutation, ...]
    content_hash: bytes


@dataclass(slots=True)
class Checkpoint:
    """The whole state after a commit."""

    commit_id: int
    commit_hash: bytes
    state_hash: bytes
    state: Graph


@dataclass(slots=True)
class Parts:
    """What a file consists of; only its shape is checked."""

    genesis: Graph | None
    genesis_hash: bytes | None
    links: list[Link]
    checkpoints: list[Checkpoint]
    next_node_id: int


def parse(data: bytes) -> Parts:
    """The parts of a file, in any spelling of JSON.

    UnreadableFileError, MalformedFileStructureError, MissingFormatVersionError, UnsupportedFormatVersionError,
    InvalidFileMagicError.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"Failed to read file: it is not valid UTF-8 at byte {error.start}.") from None
    try:
        return scan(text) or from_json(text)
    except RecursionError:
        raise shape.malformed("the file", "is nested too deep") from None


# The scanner.

START = f'{{\n  "magic": "{MAGIC}",\n  "format_version": {VERSION},\n  "genesis_state": '
# A commit up to its message. A hash is taken as text up to the next bracket; HASH_BETWEEN separates its numbers.
LINK = re.compile(
    r'\n    \{\n      "id": (0|[1-9][0-9]{0,19}),\n      "parent": (null|0|[1-9][0-9]{0,19}),\n'
    r'      "parent_hash": (?:null|\[\n        ([^\]]*)\n      \]),\n      "hash": \[\n        ([^\]]*)\n      \],\n'
    r'      "message": '
)
HASH_BETWEEN = ",\n        "
DIGITS = [str(byte) for byte in range(256)]
BYTES = {digits: byte for byte, digits in enumerate(DIGITS)}
# The rest of a commit that sets one field to an integer, a string without escapes or a plain float, as most do.
CHARS = r'"([^"\\\x00-\x1f]*)"'
PLAIN = re.compile(
    rf'(?:null|{CHARS}),\n      "mutations": \[\n        \{{\n          "SetField": \{{\n'
    rf'            "id": (0|[1-9][0-9]{{0,19}}),\n            "key": {CHARS},\n            "value": \{{\n'
    rf'              (?:"Int": (-?[1-9][0-9]{{0,18}}|0)|"Str": {CHARS}|"Float": (-?(?:0|[1-9][0-9]{{0,15}})\.[0-9]+))\n'
    r"            \}\n          \}\n        \}\n      \]\n    \}"
)
# -0 is a float for the first engine and the integer 0 for the JSON parser.
MINUS_ZERO = re.compile(r"-0(?![0-9.eE])")


class _Unexpected(Exception):
    """The text is not as the first engine writes it."""


def _refuse_constant(name: str) -> NoReturn:
    raise shape.malformed("the file", f"holds {name}, which is not JSON")


class Scanner:
    """Reads the text from front to back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.json = json.JSONDecoder(parse_constant=_refuse_constant)
        self.last_hash: tuple[str | None, bytes] = (None, b"")

    def skip(self, expected: str) -> None:
        """Goes past this text."""
        if not self.text.startswith(expected, self.at):
            raise _Unexpected
        self.at += len(expected)

    def value(self) -> Any:
        """The JSON value that begins here."""
        result, self.at = self.json.raw_decode(self.text, self.at)
        return result

    def digest(self, numbers: str, content_hash: bytes | None = None) -> bytes:
        """The hash that is written so. Mostly it is known: the one that was read last, or that of the content."""
        if numbers != self.last_hash[0]:
            if content_hash is not None and numbers == HASH_BETWEEN.join(map(DIGITS.__getitem__, content_hash)):
                digest = content_hash
            else:
                split = numbers.split(HASH_BETWEEN)
                if len(split) != 32:
                    raise _Unexpected
                digest = bytes(map(BYTES.__getitem__, split))
            self.last_hash = (numbers, digest)
        return self.last_hash[1]

    def link(self) -> Link:
        """The commit that begins here."""
        match = LINK.match(self.text, self.at)
        if match is None:
            raise _Unexpected
        self.at = match.end()
        link_id, parent, parent_numbers, numbers = match.groups()
        where = f"commit {link_id}"
        message, mutations = self.content(where)
        parent_hash = None if parent_numbers is None else self.digest(parent_numbers)
        content_hash = commit_hash(parent_hash or NO_PARENT, message, encode_all(mutations))
        return Link(
            shape.u64(int(link_id), where),
            None if parent == "null" else shape.u64(int(parent), where),
            parent_hash,
            self.digest(numbers, content_hash),
            message,
            mutations,
            content_hash,
        )

    def content(self, where: str) -> tuple[str | None, tuple[Mutation, ...]]:
        """The message that begins here, and the mutations."""
        match = PLAIN.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            plain, node_id, key, integer, string, positional = match.groups()
            value: Value
            if integer is not None:
                value = shape.integer(int(integer), where)
            else:
                value = float(positional) if string is None else string
            return plain, (SetField(shape.u64(int(node_id), where), key, value),)
        message = self.value()
        self.skip(',\n      "mutations": ')
        mutations = shape.array(self.value(), where)
        self.skip("\n    }")
        return (
            None if message is None else shape.text(message, where),
            tuple([shape.mutation(item, where) for item in mutations]),
        )

    def parts(self) -> Parts:
        """The whole file."""
        self.skip(START)
        genesis = self.value()
        self.skip(',\n  "genesis_state_hash": ')
        genesis_hash = self.value()
        self.skip(',\n  "commits": [')
        links = [self.link()]
        while self.text.startswith(",", self.at):
            self.at += 1
            links.append(self.link())
        self.skip('\n  ],\n  "checkpoints": ')
        checkpoints = self.value()
        self.skip(',\n  "next_node_id": ')
        next_node_id = self.value()
        self.skip("\n}")
        if self.at != len(self.text):
            raise _Unexpected
        return _parts(genesis, genesis_hash, links, checkpoints, next_node_id)


def scan(text: str) -> Parts | None:
    """The parts of a file that is written as the first engine writes it, and has a commit; None for any other."""
    if not text.startswith(START) or ("-0" in text and MINUS_ZERO.search(text)):
        return None
    try:
        return Scanner(text).parts()
    except (_Unexpected, KeyError, ValueError):
        return None


# The parser.

TOP = ("commits", "checkpoints", "next_node_id")
TOP_OPTIONAL = ("genesis_state", "genesis_state_hash")


def from_json(text: str) -> Parts:
    """The parts of any file. With a header the last of repeated keys counts, without one they are refused."""
    header = _load(text, legacy=False)
    if "magic" not in header and "format_version" not in header:
        header = _load(text, legacy=True)
    else:
        check_header(header)
    known = {*TOP, *TOP_OPTIONAL, "magic", "format_version"}
    for name in header:
        if name not in known:
            raise shape.malformed("the file", f"has the unknown field {name!r}")
    shape.record(header, TOP, "the file", 1, (*TOP_OPTIONAL, "magic", "format_version"))
    links = [parse_link(item, index) for index, item in enumerate(shape.array(header["commits"], "commits"))]
    return _parts(
        header.get("genesis_state"),
        header.get("genesis_state_hash"),
        links,
        header["checkpoints"],
        header["next_node_id"],
    )


def check_header(header: dict[str, Any]) -> None:
    """Magic and version, in the first engine's order of checks."""
    version = header.get("format_version")
    if type(version) is not int or not 0 <= version < 2**64 or version % 2**32 == 0:
        raise MissingFormatVersionError("Missing format version. The header is damaged; restore it or the file.")
    # The first engine looks at 32 bits of it.
    if version % 2**32 > VERSION:
        raise UnsupportedFormatVersionError(
            f"Unsupported format version: {version % 2**32}. Read it with a newer release.", version=version
        )
    magic = header.get("magic")
    if magic != MAGIC:
        raise InvalidFileMagicError("Invalid file magic. This is not a memory of format v1.", magic=magic)
    if version != VERSION:
        raise shape.malformed("format_version", "is not an unsigned integer of 32 bits")


def _load(text: str, legacy: bool) -> dict[str, Any]:
    """The JSON object that the text is."""
    try:
        result = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_integer if MINUS_ZERO.search(text) else None,
            object_pairs_hook=shape.mark_repeated if legacy else None,
        )
    except MalformedFileStructureError:
        raise
    except ValueError as error:
        raise shape.malformed("the file", f"is not JSON ({error})") from None
    if not isinstance(result, dict):
        raise shape.malformed("the file", "is not an object")
    return result


def _integer(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)


def parse_link(item: Any, index: int) -> Link:
    """A commit from its JSON, the `index`-th of the file. MalformedFileStructureError."""
    where = f"commits[{index}]"
    needed, optional = ("id", "hash", "mutations"), ("parent", "parent_hash", "message")
    item = shape.record(item, needed, where, 3, optional)
    message = None if item.get("message") is None else shape.text(item["message"], where)
    parent_hash = shape.optional_hash(item.get("parent_hash"), where)
    mutations = tuple([shape.mutation(inner, where) for inner in shape.array(item["mutations"], where)])
    return Link(
        shape.u64(item["id"], where),
        shape.optional_u64(item.get("parent"), where),
        parent_hash,
        shape.digest(item["hash"], where),
        message,
        mutations,
        commit_hash(parent_hash or NO_PARENT, message, encode_all(mutations)),
    )


def _checkpoint(item: Any, index: int) -> Checkpoint:
    where = f"checkpoints[{index}]"
    item = shape.record(item, ("commit_id", "commit_hash", "state_hash", "state"), where, 3)
    return Checkpoint(
        shape.u64(item["commit_id"], where),
        shape.digest(item["commit_hash"], where),
        shape.digest(item["state_hash"], where),
        shape.graph(item["state"], where, 4),
    )


def _parts(genesis: Any, genesis_hash: Any, links: list[Link], checkpoints: Any, next_node_id: Any) -> Parts:
    """Brings what the scanner and the parser both leave to JSON into shape."""
    return Parts(
        None if genesis is None else shape.graph(genesis, "genesis_state", 2),
        shape.optional_hash(genesis_hash, "genesis_state_hash"),
        links,
        [_checkpoint(item, index) for index, item in enumerate(shape.array(checkpoints, "checkpoints"))],
        shape.u64(next_node_id, "next_node_id"),
    )
