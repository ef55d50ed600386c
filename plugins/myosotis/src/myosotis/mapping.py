"""Dataclasses as nodes: an object's fields are checked against their annotations on the way in and on the way out.

    @dataclass
    class Agent:
        name: str
        energy: float = 1.0
        tags: list[str] = field(default_factory=list)
        friend: Ref | None = None

    node = save(memory, Agent("Iris"))
    iris = load(Agent, node)

The node's type is the name of the class. Annotations may be int, float, bool, str, Ref, list, list[X], dict[str, X],
dataclasses (kept as maps) and unions of these; a field that is None is a field that the node does not have. The file
needs no class: whoever opens it sees nodes and fields.
"""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from myosotis.containers import plain
from myosotis.errors import InvalidValueError
from myosotis.queries import same
from myosotis.values import Ref

if TYPE_CHECKING:
    from myosotis.handles import Handle
    from myosotis.memory import Memory

T = TypeVar("T")


def save(memory: Memory, thing: Any, node: Handle | None = None) -> Handle:
    """Stages a dataclass instance as a node, a new one or `node`, of which only fields that differ are set.

    InvalidValueError (path) when a value is not what its annotation says, or `node` is of another type; then nothing is
    staged. TypeError when `thing` is no dataclass instance.
    """
    if not is_dataclass(thing) or isinstance(thing, type):
        raise TypeError(f"{thing!r} is no instance of a dataclass")
    values = _fields_in(thing, type(thing).__name__)
    if node is None:
        return memory.create(type(thing).__name__, **values)
    _check_type(type(thing), node)
    kept = node.fields
    names = {each.name for each in fields(thing)}
    node.update({key: value for key, value in values.items() if key not in kept or not same(kept[key], value)})
    for key in kept:
        if key in names and key not in values:
            del node[key]
    return node


def load(cls: type[T], node: Handle) -> T:
    """An instance of a dataclass from a node; fields of the node that the class does not have are left out.

    InvalidValueError (path) when the node is of another type, lacks a field without a default, or a value is not what
    its annotation says.
    """
    _check_type(cls, node)
    return _object_out(cls, node.fields, cls.__name__)


def _check_type(cls: type, node: Handle) -> None:
    if node.type != cls.__name__:
        raise InvalidValueError(f"Node {node.id} is a {node.type}, not a {cls.__name__}.", path=cls.__name__)


def _fields_in(thing: Any, path: str) -> dict[str, Any]:
    """The fields of an instance as values, those that are None left out. InvalidValueError."""
    hints = get_type_hints(type(thing))
    values = {}
    for each in fields(thing):
        inner = f"{path}.{each.name}"
        value = _value_in(getattr(thing, each.name), hints[each.name], inner)
        if value is not None:
            values[each.name] = value
    return values


def _value_in(value: Any, hint: Any, path: str) -> Any:
    """A value as it is kept. InvalidValueError when it is not what the annotation says."""
    for option in _options(hint):
        origin = get_origin(option) or option
        if option is type(None) and value is None:
            return None
        if is_dataclass(option) and type(value) is option:
            return _fields_in(value, path)
        if option is float and type(value) is int:
            return float(value)
        if option is Ref and hasattr(type(value), "__myosotis__") and type(plain(value)) is Ref:
            return plain(value)
        if option is Any or type(value) is origin and origin in _SCALARS:
            return plain(value)
        if origin is list and type(value) is list:
            item = (get_args(option) or (Any,))[0]
            return [_value_in(each, item, f"{path}[{at}]") for at, each in enumerate(value)]
        if origin is dict and type(value) is dict:
            item = (get_args(option) or (str, Any))[1]
            return {key: _value_in(each, item, f"{path}[{key!r}]") for key, each in value.items()}
    raise _unfit(value, hint, path)


def _object_out(cls: type[T], values: dict[str, Any], path: str) -> T:
    hints = get_type_hints(cls)
    found = {}
    for each in fields(cls):  # type: ignore[arg-type]
        if each.name in values:
            found[each.name] = _value_out(values[each.name], hints[each.name], f"{path}.{each.name}")
        elif type(None) in _options(hints[each.name]):
            found[each.name] = None
    try:
        return cls(**found)
    except TypeError as error:
        raise InvalidValueError(f"{path} cannot be made of this node: {error}.", path=path) from None


def _value_out(value: Any, hint: Any, path: str) -> Any:
    for option in _options(hint):
        origin = get_origin(option) or option
        if is_dataclass(option) and type(value) is dict:
            return _object_out(option, value, path)  # type: ignore[arg-type]
        if option is Any or type(value) is origin and origin in _SCALARS:
            return value
        if origin is list and type(value) is list:
            item = (get_args(option) or (Any,))[0]
            return [_value_out(each, item, f"{path}[{at}]") for at, each in enumerate(value)]
        if origin is dict and type(value) is dict:
            item = (get_args(option) or (str, Any))[1]
            return {key: _value_out(each, item, f"{path}[{key!r}]") for key, each in value.items()}
    raise _unfit(value, hint, path)


_SCALARS = (int, float, bool, str, Ref)


def _options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _unfit(value: Any, hint: Any, path: str) -> InvalidValueError:
    shown = hint.__name__ if isinstance(hint, type) else str(hint)
    return InvalidValueError(f"{path} is {value!r}, which is not {shown}.", path=path)
