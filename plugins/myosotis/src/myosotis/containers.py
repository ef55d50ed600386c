"""Lists and maps of a field that are changed in place, and the way of values into a memory and out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from typing import TYPE_CHECKING, Any

from myosotis.errors import StaleValueError
from myosotis.values import Ref, Value, check, check_key, check_references

if TYPE_CHECKING:
    from myosotis.store import Store
    from myosotis.view import View


def plain(value: Any, store: Store | None = None) -> Any:
    """A value of one's own: handles become references, lists and maps are copied. Nothing else is checked.

    store: where it is to be kept. InvalidValueError for a handle of another memory.
    """
    kind = type(value)
    if kind in (str, int, float, bool, Ref):
        return value
    if kind is list:
        return [plain(item, store) for item in value]
    if kind is dict:
        return {key: plain(item, store) for key, item in value.items()}
    return value.__myosotis__(store) if hasattr(kind, "__myosotis__") else value


class Tracked:
    """What lists and maps of a field have in common: where they lie, and that a change is staged before it is made.

    It stays valid as long as the field keeps this very value: setting the field anew, or discarding, cuts it off.
    """

    __slots__ = ("_key", "_level", "_node_id", "_path", "_root", "_value", "_view")

    def __init__(self, view: View, node_id: int, key: str, root: Any, value: Any, path: str, level: int) -> None:
        self._view = view
        self._node_id = node_id
        self._key = key
        self._root = root
        self._value = value
        self._path = path
        self._level = level

    def __myosotis__(self, store: Store | None) -> Any:
        return plain(self._value)

    def _out(self, item: Any, where: object) -> Any:
        if type(item) is list or type(item) is dict:
            kind = TrackedList if type(item) is list else TrackedMap
            path = f"{self._path}[{where!r}]"
            return kind(self._view, self._node_id, self._key, self._root, item, path, self._level + 1)
        return self._view.handle(item.id) if type(item) is Ref else item

    def _in(self, item: Any, where: object) -> Value:
        """An item as it is kept. InvalidValueError, MissingReferenceError."""
        value: Value = plain(item, self._view.store)
        path = f"{self._path}[{where!r}]"
        check(value, path, self._level + 1)
        check_references(value, self._view.known(), path)
        return value

    def _begin(self) -> None:
        """Stages that the field is set; the change itself must follow and must not fail. Raises as setting does."""
        self._view.touch(self._node_id, self._key, self._root)

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        return bool(self._value == plain(other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._value)


class TrackedList(Tracked, MutableSequence[Any]):
    """A list of a field. A change in place is staged as setting the field."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._out(self._value[at], at) for at in range(*index.indices(len(self._value)))]
        at = range(len(self._value))[index]
        return self._out(self._value[at], at)

    def __setitem__(self, index: Any, item: Any) -> None:
        if isinstance(index, slice):
            changed = list(self._value)
            changed[index] = [self._in(each, at) for at, each in enumerate(item)]
            self._begin()
            self._value[:] = changed
            return
        at = range(len(self._value))[index]
        value = self._in(item, at)
        self._begin()
        self._value[at] = value

    def __delitem__(self, index: Any) -> None:
        if not isinstance(index, slice):
            index = range(len(self._value))[index]
        self._begin()
        del self._value[index]

    def insert(self, index: int, item: Any) -> None:
        """Puts an item before position `index`."""
        value = self._in(item, index)
        self._begin()
        self._value.insert(index, value)

    def extend(self, items: Iterable[Any]) -> None:
        """Appends several items; all or, when one is refused, none."""
        at = len(self._value)
        self[at:at] = list(items)

    def clear(self) -> None:
        """Takes all items out."""
        del self[:]

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sorts as a list does."""
        self[:] = sorted(self, key=key, reverse=reverse)


class TrackedMap(Tracked, MutableMapping[str, Any]):
    """A map of a field, its keys ascending. A change in place is staged as setting the field."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        return self._out(self._value[key], key)

    def __setitem__(self, key: str, item: Any) -> None:
        check_key(key)
        value = self._in(item, key)
        self._begin()
        self._value[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self._value:
            raise KeyError(key)
        self._begin()
        del self._value[key]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._value))

    def clear(self) -> None:
        """Takes all entries out."""
        self._begin()
        self._value.clear()


def out(view: View, node_id: int, key: str, value: Value) -> Any:
    """A field's value as users see it: references as handles, lists and maps as tracked ones."""
    if type(value) is list:
        return TrackedList(view, node_id, key, value, value, key, 0)
    if type(value) is dict:
        return TrackedMap(view, node_id, key, value, value, key, 0)
    return view.handle(value.id) if type(value) is Ref else value


def refuse_stale(node_id: int, key: str) -> None:
    """StaleValueError: a list or map that is not the field's value any more."""
    raise StaleValueError(
        f"This is not the value of field {key!r} of node {node_id} any more. Read the field again.",
        node_id=node_id,
        key=key,
    )
