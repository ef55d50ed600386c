"""Handles: a node as an object of Python, whose fields are its attributes and items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from myosotis.containers import out, plain
from myosotis.errors import FieldNotFoundError, InvalidValueError
from myosotis.mutations import DeleteField, SetField
from myosotis.values import Ref, check, check_key

if TYPE_CHECKING:
    from myosotis.graph import Node
    from myosotis.store import Store
    from myosotis.view import View


SMALL = 2**63


class FieldAttributeError(FieldNotFoundError, AttributeError):
    """The node has no such field (`node_id`, `key`); raised when it was read as an attribute."""


class Handle:
    """A node of a memory, or of its past: `agent.goal` and `agent["goal"]` are the same field.

    Fields whose names are members of this class (`id`, `type`, ...) or begin with an underscore are items only. It
    holds no data: it shows what the memory (or the moment) has, and two handles of one node are equal.
    """

    __slots__ = ("_id", "_view")
    _id: int
    _view: View

    def __init__(self, view: View, node_id: int) -> None:
        object.__setattr__(self, "_view", view)
        object.__setattr__(self, "_id", node_id)

    def __myosotis__(self, store: Store | None) -> Ref:
        if store is not None and self._view.store is not store:
            raise InvalidValueError(
                f"Node {self._id} is of another memory, and references lead to nodes of the same one.", path=repr(self)
            )
        return Ref(self._id)

    @property
    def id(self) -> int:
        """The node's id (u64)."""
        return self._id

    @property
    def _node(self) -> Node:
        return self._view.get(self._id)

    @property
    def type(self) -> str:
        """The node's type. NodeNotFoundError when the node is not there (any more, or yet)."""
        return self._node.type

    @property
    def deleted(self) -> bool:
        """Whether the node is a tombstone."""
        return self._node.deleted

    @property
    def fields(self) -> dict[str, Any]:
        """A copy of all fields, keys ascending, as plain values: references are `Ref`."""
        fields = self._node.fields
        return {key: plain(fields[key]) for key in sorted(fields)}

    def __getitem__(self, key: str) -> Any:
        """A field's value. FieldNotFoundError, NodeNotFoundError."""
        fields = self._node.fields
        if key not in fields:
            raise FieldNotFoundError(
                f"Field not found: {key}. Node {self._id} has no such field.", node_id=self._id, key=key
            )
        return out(self._view, self._id, key, fields[key])

    def __setitem__(self, key: str, value: Any) -> None:
        """Stages a field's value. InvalidValueError, MissingReferenceError, NodeDeletedError, ReadOnlyError."""
        # Most fields are plain numbers and words, which a look at their type lets through.
        if type(key) is not str or not key.isascii():
            check_key(key)
        kind = type(value)
        if not (kind is bool or (kind is int and -SMALL < value < SMALL) or (kind is str and value.isascii())):
            value = plain(value, self._view.store)
            check(value, key)
        self._view.stage(SetField(self._id, key, value))

    def __delitem__(self, key: str) -> None:
        """Stages that a field goes. FieldNotFoundError, DeleteOnDeletedNodeError, ReadOnlyError."""
        self._view.stage(DeleteField(self._id, key))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        fields = self._node.fields
        if name not in fields:
            raise FieldAttributeError(
                f"Field not found: {name}. Node {self._id} has no such field.", node_id=self._id, key=name
            )
        return out(self._view, self._id, name, fields[name])

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _MEMBERS or name[:1] == "_":
            raise AttributeError(
                f"{name!r} is a member of handles. Write node[{name!r}] = ... for a field of this name."
            )
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name in _MEMBERS or name[:1] == "_":
            raise AttributeError(f"{name!r} is a member of handles. Write del node[{name!r}] for a field of this name.")
        if name not in self._node.fields:
            self.__getattr__(name)
        del self[name]

    def __contains__(self, key: object) -> bool:
        return key in self._node.fields

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._node.fields))

    def __len__(self) -> int:
        return len(self._node.fields)

    def __bool__(self) -> bool:
        return True

    def get(self, key: str, default: Any = None) -> Any:
        """A field's value, or `default` when there is no such field."""
        return self[key] if key in self else default

    def keys(self) -> list[str]:
        """The names of the fields, ascending."""
        return list(self)

    def items(self) -> list[tuple[str, Any]]:
        """Names and values of the fields, names ascending."""
        return [(key, self[key]) for key in self]

    def update(self, fields: dict[str, Any]) -> None:
        """Sets several fields; all or, when one is refused, none."""
        values = {key: plain(value, self._view.store) for key, value in fields.items()}
        self._view.stage_all([SetField(self._id, key, value) for key, value in values.items()])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self._id == other._id and self._view is other._view

    def __hash__(self) -> int:
        return hash(self._id)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(key for key in self if key.isidentifier())})

    def __repr__(self) -> str:
        node = self._view.peek(self._id)
        if node is None:
            return f"<node {self._id}, not there>"
        return f"<{node.type} {self._id}{', deleted' if node.deleted else ''}>"


_MEMBERS = frozenset(name for name in dir(Handle) if not name.startswith("_"))
