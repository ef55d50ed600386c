"""Reports on a page graph and its export to networkx, rustworkx, DOT and JSON. docs/understand/graph.md.

Every function takes a Graph (`mmsb._core.graph`), which answers what concerns single pages itself. `kinds`: None (all
edges), a kind, or several. `names`: how a page is called, a mapping from page id or a callable; None, or None for one
page: the page has no name. What comes out depends on pages and edges alone, and is the same on every run.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mmsb._core.graph import KINDS, Edge, Graph
from mmsb.errors import MissingPackageError

__all__ = [
    "KINDS",
    "Edge",
    "Graph",
    "add_edges",
    "Reduction",
    "closure",
    "sinks",
    "sources",
    "to_dot",
    "to_json",
    "to_networkx",
    "to_rustworkx",
    "transitive_reduction",
]

Kinds = Any
Names = Mapping[int, str] | Callable[[int], str | None] | None

# How DOT draws an edge: what recomputes is a solid line, what only tells somebody is not.
STYLES = {"data": "solid", "control": "dashed", "device": "dotted", "compiler": "dotted"}


class Drawn(Protocol):
    """What the exports ask: a Graph, or a State's."""

    def order(self) -> list[int]: ...

    def levels(self) -> list[list[int]]: ...

    def edges(self, kinds: Kinds = None) -> Sequence[Any]: ...


class Reduction(NamedTuple):
    """A report: the edges without which everything would still depend on the same pages, and the others."""

    kept: list[Edge]
    redundant: list[Edge]


def add_edges(graph: Graph, edges: Sequence[tuple[int, int, str]]) -> None:
    """Adds edges (parent, child, kind), and the pages that they need. GraphCycleError, EdgeExistsError: then no edge is
    added, and pages without edges may be left.
    """
    graph.connect(edges)


def sources(graph: Graph, kinds: Kinds = None) -> list[int]:
    """Pages that depend on no page, ascending; a page without edges is one."""
    children = {edge.child for edge in graph.edges(kinds)}
    return [page_id for page_id in graph.pages() if page_id not in children]


def sinks(graph: Graph, kinds: Kinds = None) -> list[int]:
    """Pages on which no page depends, ascending; a page without edges is one."""
    parents = {edge.parent for edge in graph.edges(kinds)}
    return [page_id for page_id in graph.pages() if page_id not in parents]


def closure(graph: Graph, kinds: Kinds = None) -> dict[int, list[int]]:
    """The transitive closure: each page, in the order of the graph, with all its descendants, ascending.

    Time and memory grow with the square of the number of pages.
    """
    return {page_id: graph.descendants(page_id, kinds) for page_id in graph.order()}


def transitive_reduction(graph: Graph, kinds: Kinds = None) -> Reduction:
    """Edges of these kinds, parted into those a transitive reduction keeps and those it leaves out; each sorted.

    An edge is redundant when a longer path joins the same pages: removing it changes no dependency, but it may carry a
    link of its own, so nothing is removed here.
    """
    redundant = set(graph.redundant(kinds))
    edges = graph.edges(kinds)
    return Reduction(
        [edge for edge in edges if (edge.parent, edge.child) not in redundant],
        [edge for edge in edges if (edge.parent, edge.child) in redundant],
    )


def name_of(names: Names, page_id: int) -> str | None:
    """The page's name, or None."""
    if names is None:
        return None
    return names(page_id) if callable(names) else names.get(page_id)


def package(name: str) -> Any:
    """Imports an optional package. MissingPackageError."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"This needs {name}, which cannot be imported ({error}). Install it: pip install {name}", package=name
        ) from error


def to_networkx(graph: Drawn, *, names: Names = None, kinds: Kinds = None) -> Any:
    """A networkx.MultiDiGraph: nodes are page ids with `name`; the key of an edge is its kind, with `kind`, `link`
    and, where it has one, `weight`.

    Nodes come in the order of the graph. MissingPackageError.
    """
    other = package("networkx").MultiDiGraph()
    for page_id in graph.order():
        other.add_node(page_id, name=name_of(names, page_id))
    for edge in graph.edges(kinds):
        other.add_edge(edge.parent, edge.child, key=edge.kind, **facts_of(edge))
    return other


def to_rustworkx(graph: Drawn, *, names: Names = None, kinds: Kinds = None) -> Any:
    """A rustworkx.PyDiGraph: the payload of a node is {"page_id", "name"}, that of an edge its Edge.

    Nodes come in the order of the graph. MissingPackageError.
    """
    order = graph.order()
    other = package("rustworkx").PyDiGraph(multigraph=True)
    nodes = other.add_nodes_from([{"page_id": page_id, "name": name_of(names, page_id)} for page_id in order])
    index = dict(zip(order, nodes, strict=True))
    other.add_edges_from([(index[edge.parent], index[edge.child], edge) for edge in graph.edges(kinds)])
    return other


def facts_of(edge: Any) -> dict[str, Any]:
    """What an edge is, by name; `weight` is left out where there is none."""
    facts = {"kind": edge.kind, "link": edge.link}
    weight = getattr(edge, "weight", None)
    return facts if weight is None else {**facts, "weight": weight}


def quoted(text: str) -> str:
    """A DOT string. Line breaks and other control characters are shown as escapes."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def to_dot(graph: Drawn, *, names: Names = None, kinds: Kinds = None) -> str:
    """The graph in the language of Graphviz; nodes in the order of the graph, edges sorted."""
    lines = ["digraph mmsb {"]
    for page_id in graph.order():
        name = name_of(names, page_id)
        lines.append(f"  {page_id} [label={quoted(str(page_id) if name is None else f'{page_id} {name}')}];")
    for edge in graph.edges(kinds):
        lines.append(f"  {edge.parent} -> {edge.child} [label={edge.kind}, style={STYLES[edge.kind]}];")
    return "\n".join([*lines, "}", ""])


def to_json(graph: Drawn, *, names: Names = None, kinds: Kinds = None) -> str:
    """{"pages": [{"page_id", "name", "level"}], "edges": [{"parent", "child", "kind", "link"}]} as text; with
    "weight" where an edge has one. Pages in the order of the graph, edges sorted; one line each.
    """
    pages = [
        {"page_id": page_id, "name": name_of(names, page_id), "level": number}
        for number, level in enumerate(graph.levels())
        for page_id in level
    ]
    edges = [{"parent": edge.parent, "child": edge.child, **facts_of(edge)} for edge in graph.edges(kinds)]
    parts = [
        f'"{title}": [' + ",".join(f"\n  {json.dumps(entry)}" for entry in entries) + ("\n ]" if entries else "]")
        for title, entries in (("pages", pages), ("edges", edges))
    ]
    return "{" + ",\n ".join(parts) + "}\n"
