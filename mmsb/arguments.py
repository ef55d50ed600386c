"""Arguments that come from outside: what they must be, and the errors that say so."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from mmsb import metadata
from mmsb.errors import InvalidDeltaError, PageRangeError, PageSizeError

PAGE_BYTES_MAX = 1 << 36
# Of UTF-8: page names and labels; sources; names of States, which go into messages together with a path.
NAME_BYTES_MOST, SOURCE_BYTES_MOST, STATE_NAME_BYTES_MOST = 65536, 4096, 1024


def page_size(size: Any) -> int:
    """A page size: 1 to 64 GiB. PageSizeError otherwise."""
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"a size is an int, not {type(size).__name__}")
    number: int = size.__index__()
    if not 1 <= number <= PAGE_BYTES_MAX:
        raise PageSizeError(f"A page cannot have {number} bytes. Use 1 to {PAGE_BYTES_MAX}.", size=number)
    return number


def bytes_of(data: Any) -> int:
    """How many bytes bytes-like data have; `len` counts the items of an array. TypeError."""
    try:
        return memoryview(data).nbytes
    except TypeError:
        raise TypeError(f"data must be bytes-like, not {type(data).__name__}") from None
    except ValueError:  # numpy has types that buffers have no word for
        return int(data.nbytes)


def encode_name(name: Any) -> bytes:
    """A name or label as UTF-8. ValueError, TypeError."""
    if not isinstance(name, str):
        raise TypeError(f"a name is a str or None, not {type(name).__name__}")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"The name {name!r} has no UTF-8 form. Use ordinary text.") from None
    if not 1 <= len(encoded) <= NAME_BYTES_MOST:
        raise ValueError(f"A name has 1 to {NAME_BYTES_MOST} bytes of UTF-8. Use None for no name.")
    return encoded


def is_text(name: str) -> bool:
    """Whether a page or a commit can have this name: lone surrogates have no UTF-8 form."""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def encode_source(source: Any) -> bytes:
    """A source as UTF-8. ValueError, TypeError."""
    if type(source) is not str:
        raise TypeError(f"source must be a str or None, not {type(source).__name__}")
    try:
        encoded = source.encode()
    except UnicodeEncodeError:
        raise ValueError(f"The source {source!r} has no UTF-8 form. Use ordinary text.") from None
    if not 1 <= len(encoded) <= SOURCE_BYTES_MOST:
        raise ValueError(f"A source has 1 to {SOURCE_BYTES_MOST} bytes of UTF-8. Use None for no source.")
    return encoded


def encode_metadata(value: Mapping[str, Any] | None) -> bytes | None:
    """Metadata as bytes, None when there is none. MetadataError."""
    if value is None or len(value) == 0:
        return None
    return metadata.encode(value)


def column(values: Any, what: str, count: int | None = None) -> Any:
    """A one-dimensional array of uint64, as long as `count`; a scalar is repeated.

    PageRangeError below 0, InvalidDeltaError for another shape, TypeError.
    """
    import numpy

    if isinstance(values, (list, tuple)) and all(type(value) is int for value in values):
        # numpy would make floats of large numbers beside small ones.
        try:
            array = numpy.array(values, dtype=numpy.uint64)
        except OverflowError:
            message = f"{what} has an element below 0 or above any page. Check it."
            raise PageRangeError(message, page_id=None, at=None, length=None, size=None) from None
    else:
        array = numpy.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{what} must be integers, not {array.dtype}")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        message = f"{what} has a negative element. Use numbers from 0."
        raise PageRangeError(message, page_id=None, at=int(array.min()), length=None, size=None)
    if array.ndim == 0 and count is not None:
        array = numpy.full(count, array)
    if array.ndim != 1 or (count is not None and len(array) != count):
        raise InvalidDeltaError(f"{what} must be one-dimensional and as long as ids. Check its shape.")
    return numpy.ascontiguousarray(array, dtype=numpy.uint64)


def seconds_of(timeout: Any) -> float | None:
    """How long to wait, None: for ever. TypeError; ValueError for what is no number, of which nothing is ever over."""
    if timeout is None:
        return None
    seconds = float(timeout)
    if math.isnan(seconds):
        raise ValueError("timeout is a number of seconds or None, not nan")
    return seconds


def ns_of(clock: Callable[[], int]) -> int:
    """What the clock of a State says, in ns since 1970: 1 (also where it says 0) to 2^64 - 1. ValueError, TypeError."""
    now = operator.index(clock())
    if not 0 <= now < 1 << 64:
        raise ValueError(f"A clock gives nanoseconds since 1970 from 0 to {(1 << 64) - 1}, not {now}.")
    return now or 1


def several(pages: Any) -> list[Any]:
    """The pages of an argument that may be one page, or None: no page. TypeError for bytes, whose items would be taken
    for ids.
    """
    if isinstance(pages, (bytes, bytearray, memoryview)):
        raise TypeError(f"pages are given by id, name or Page, not as {type(pages).__name__}")
    if pages is None:
        return []
    if isinstance(pages, str) or hasattr(pages, "page_id"):
        return [pages]
    try:
        return [operator.index(pages)]  # also what numpy counts with
    except TypeError:
        return list(pages)
