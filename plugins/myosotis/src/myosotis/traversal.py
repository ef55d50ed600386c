"""Walking a graph along its references. Cycles are no danger: a walk meets each node once, a path none twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from myosotis.graph import Node
from myosotis.values import references

if TYPE_CHECKING:
    from myosotis.view import View


def targets(node: Node) -> Iterator[tuple[str, int]]:
    """Path and target of each reference in a node's fields, keys ascending."""
    for key in sorted(node.fields):
        yield from references(node.fields[key], key)


def _next(view: View, node_id: int) -> list[int]:
    """The nodes that a node refers to, each once, in the order of its fields."""
    return list(dict.fromkeys(target for _, target in targets(view.get(node_id))))


def walk(view: View, start: int, order: str, depth: int | None) -> Iterator[int]:
    """The nodes within `depth` references of `start`, breadth first or depth first (as a recursive walk would go)."""
    if order not in ("breadth", "depth"):
        raise ValueError(f"There is no order {order!r}. Use 'breadth' or 'depth'.")
    return _breadth(view, start, depth) if order == "breadth" else _depth(view, start, depth)


def _breadth(view: View, start: int, depth: int | None) -> Iterator[int]:
    seen, level, away = {start}, [start], 0
    while level:
        yield from level
        if away == depth:
            return
        following = []
        for node_id in level:
            for target in _next(view, node_id):
                if target not in seen:
                    seen.add(target)
                    following.append(target)
        level, away = following, away + 1


def _depth(view: View, start: int, depth: int | None) -> Iterator[int]:
    """Depth first. With a bound, a node reached too late by one way may be reached in time by another."""
    within = None if depth is None else set(_breadth(view, start, depth))
    seen, stack = {start}, [iter([start])]
    while stack:
        for node_id in stack[-1]:
            if len(stack) > 1 and node_id in seen or within is not None and node_id not in within:
                continue
            seen.add(node_id)
            yield node_id
            stack.append(iter(_next(view, node_id)))
            break
        else:
            stack.pop()


def paths(view: View, start: int, end: int, depth: int | None) -> Iterator[list[int]]:
    """The paths from `start` to `end`, shortest first. Only nodes from which `end` can be reached are walked."""
    useful = _reaching(view, start, end)
    waiting = deque([[start]] if start in useful else [])
    while waiting:
        path = waiting.popleft()
        if path[-1] == end:
            yield path
            continue
        if depth is not None and len(path) > depth:
            continue
        for target in _next(view, path[-1]):
            if target in useful and target not in path:
                waiting.append([*path, target])


def _reaching(view: View, start: int, end: int) -> set[int]:
    """The nodes on ways from `start` to `end`."""
    before: dict[int, list[int]] = {}
    for node_id in _breadth(view, start, None):
        for target in _next(view, node_id):
            before.setdefault(target, []).append(node_id)
    found, waiting = {end}, [end]
    while waiting:
        for node_id in before.get(waiting.pop(), ()):
            if node_id not in found:
                found.add(node_id)
                waiting.append(node_id)
    return found
