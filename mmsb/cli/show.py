"""`mmsb show`: the bytes of a page, now or in the past, in one of several forms."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from mmsb.cli.common import at_option, open_store, page_of, state_at, store_argument
from mmsb.cli.output import json_option, print_json, printable

FORMS = ("hex", "text", "array", "raw", "png")


def hex_lines(data: bytes, base: int = 0) -> Iterator[str]:
    """Lines of 16 bytes: offset, hex, ASCII. A run of equal lines is written as one `*`."""
    before, starred = None, False
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        if row == before and start + 16 < len(data):
            if not starred:
                yield "*"
            starred = True
            continue
        before, starred = row, False
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        ascii_text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{base + start:08x}  {left:<23}  {right:<23}  |{ascii_text}|"


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """210,160,3 or 210x160x3."""
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(",") if part)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no shape; write 210,160,3", param_hint="--shape") from None
    if not shape or min(shape) < 0:
        raise click.BadParameter(f"{text!r} is no shape; write 210,160,3", param_hint="--shape")
    return shape


def array_of(data: bytes, dtype: str, shape: tuple[int, ...] | None) -> Any:
    """A numpy array over the bytes; a usage error when they do not fit."""
    import numpy

    try:
        kind = numpy.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise click.BadParameter(f"{dtype!r}: {error}", param_hint="--dtype") from None
    if kind.hasobject:
        raise click.BadParameter(f"{dtype!r} holds Python objects, a page holds bytes", param_hint="--dtype")
    try:
        array = numpy.frombuffer(data, kind)
        return array if shape is None else array.reshape(shape)
    except ValueError as error:
        raise click.UsageError(f"{len(data)} bytes as {kind} of shape {shape or '(any)'}: {error}.") from None


def png_of(data: bytes, dtype: str, shape: tuple[int, ...] | None) -> bytes:
    """The page as an image."""
    from mmsb.cli.png import encode_png

    if dtype not in ("uint8", "u1", "|u1", "B"):
        raise click.UsageError(f"An image has bytes (uint8) as pixels, not {dtype}.")
    if shape is None or len(shape) not in (2, 3):
        raise click.UsageError("Give --shape HEIGHT,WIDTH or HEIGHT,WIDTH,CHANNELS for an image.")
    height, width, channels = (*shape, 1)[:3]
    try:
        return encode_png(data, height, width, channels)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None


def text_of(data: bytes) -> str:
    """The page as UTF-8 without the zeros at its end; control characters but line ends and tabs are escaped."""
    text = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
    return "".join(char if char in "\n\t" else printable(char) for char in text)


def recorded(metadata: Any, key: str) -> str | None:
    """The dtype or shape that the page's metadata names, when it is text."""
    value = metadata.get(key)
    return value if isinstance(value, str) else None


@click.command("show")
@store_argument
@click.argument("page")
@at_option
@click.option("--as", "form", type=click.Choice(FORMS), help="How to show it. [default: hex, or array with --dtype]")
@click.option("--dtype", help="Type of the elements, as numpy names it. [default: metadata 'dtype', or uint8]")
@click.option("--shape", help="Shape, as 210,160,3. [default: metadata 'shape', or flat]")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Begin at this byte.")
@click.option("--length", type=click.IntRange(min=0), help="Show so many bytes.")
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="Write to this file instead of the terminal.")
@json_option
def command(
    store: str,
    page: str,
    place: int | str | datetime | None,
    form: str | None,
    dtype: str | None,
    shape: str | None,
    offset: int,
    length: int | None,
    output: str | None,
    wants_json: bool,
) -> None:
    """Show the bytes of PAGE (name or id) of STORE.

    --as png takes 2-D and 3-D uint8 pages (grey, grey+alpha, RGB, RGBA); write it with -o.
    """
    form = form or ("array" if dtype or shape else "hex")
    with open_store(store) as state:
        source = state_at(state, place)
        found = page_of(source, page)
        size, epoch, metadata = found.size, found.epoch, found.metadata
        if offset > size or (length is not None and offset + length > size):
            raise click.UsageError(f"Page {page!r} has {size} bytes; --offset and --length lead beyond its end.")
        data = found.read()[offset : None if length is None else offset + length]
        facts = {"page_id": found.page_id, "name": found.name, "size": size, "epoch": epoch, "seq": source.seq}
    dtype = dtype or recorded(metadata, "dtype") or "uint8"
    wanted_shape = shape_of(shape or (recorded(metadata, "shape") if len(data) == size else None))
    if wants_json:
        if form == "array":
            facts["array"] = array_of(data, dtype, wanted_shape).tolist()
        else:
            facts["offset"], facts["hex"] = offset, data.hex()
        print_json(facts)
        return
    content: str | bytes
    if form == "png":
        content = png_of(data, dtype, wanted_shape)
    elif form == "raw":
        content = data
    elif form == "text":
        content = text_of(data) + "\n"
    elif form == "array":
        content = f"{array_of(data, dtype, wanted_shape)}\n"
    else:
        content = "".join(f"{line}\n" for line in hex_lines(data, offset))
    write_out(content, output)


def write_out(content: str | bytes, output: str | None) -> None:
    """To the file, or to stdout (bytes only when it is no terminal)."""
    if output is not None:
        with open(output, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return
    if isinstance(content, bytes) and sys.stdout.isatty():
        raise click.UsageError("This is not for a terminal; write it to a file with -o FILE.")
    click.echo(content, nl=False)
