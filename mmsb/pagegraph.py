"""The graph of a State's pages, for asking. Every answer is in pages' ids; docs/understand/graph.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mmsb import graph as reports

if TYPE_CHECKING:
    from mmsb._core.graph import Edge, Graph
    from mmsb.graph import Reduction

Kinds = Any


class PageGraph:
    """`state.graph`, and that of a past state. Pages are given by id, name or Page; a page without edges has no
    parents and no children.

    `kinds`: None (edges of every kind), a kind ("data", "control", "device", "compiler"), or several. Lists of pages
    are ids, ascending where nothing else is said. PageNotFoundError, ValueError for an unknown kind.
    """

    def __init__(self, core: Graph, page_id_of: Callable[[Any], int], name_of: Callable[[int], str | None]) -> None:
        self.core = core
        self._page_id_of, self._name_of = page_id_of, name_of

    def _of(self, page: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
        page_id = self._page_id_of(page)
        return ask(page_id, *arguments) if page_id in self.core else []

    def __len__(self) -> int:
        return self.core.edge_count

    def edges(self, kinds: Kinds = None) -> list[Edge]:
        """All edges, by parent, child and kind."""
        return self.core.edges(kinds)

    def has_edge(self, parent: Any, child: Any, kinds: Kinds = None) -> bool:
        """Whether an edge leads from one page to the other."""
        above, below = self._page_id_of(parent), self._page_id_of(child)
        return above in self.core and below in self.core and self.core.has_edge(above, below, kinds)

    def parents(self, page: Any, kinds: Kinds = None) -> list[int]:
        """The pages that a page depends on directly."""
        return list(self._of(page, self.core.parents, kinds))

    def children(self, page: Any, kinds: Kinds = None) -> list[int]:
        """The pages that depend on a page directly."""
        return list(self._of(page, self.core.children, kinds))

    def ancestors(self, page: Any, kinds: Kinds = None) -> list[int]:
        """The pages that a page depends on, directly or not."""
        return list(self._of(page, self.core.ancestors, kinds))

    def descendants(self, page: Any, kinds: Kinds = None) -> list[int]:
        """The pages that depend on a page, directly or not."""
        return list(self._of(page, self.core.descendants, kinds))

    def closure(self, kinds: Kinds = None) -> dict[int, list[int]]:
        """Each page with edges, with all its descendants."""
        return reports.closure(self.core, kinds)

    def sources(self, kinds: Kinds = None) -> list[int]:
        """Pages with edges that depend on no page."""
        return reports.sources(self.core, kinds)

    def sinks(self, kinds: Kinds = None) -> list[int]:
        """Pages with edges on which no page depends."""
        return reports.sinks(self.core, kinds)

    def levels(self) -> list[list[int]]:
        """Pages with edges by level, the number of edges on the longest path that ends at the page."""
        return self.core.levels()

    def order(self) -> list[int]:
        """Pages with edges in the order in which waves visit them: by level, then by id."""
        return self.core.order()

    def critical_path(
        self, weights: Callable[[int], float] | Mapping[int, float] | None = None, kinds: Kinds = None
    ) -> tuple[float, list[int]]:
        """(weight, pages) of the heaviest path; `weights`: a page's, by id (None: 1 each)."""
        return self.core.critical_path(weights, kinds)

    def transitive_reduction(self, kinds: Kinds = None) -> Reduction:
        """A report: which edges say nothing that a longer path does not say too."""
        return reports.transitive_reduction(self.core, kinds)

    def to_networkx(self, kinds: Kinds = None) -> Any:
        """A networkx.MultiDiGraph. MissingPackageError without networkx."""
        return reports.to_networkx(self.core, names=self._name_of, kinds=kinds)

    def to_rustworkx(self, kinds: Kinds = None) -> Any:
        """A rustworkx.PyDiGraph. MissingPackageError without rustworkx."""
        return reports.to_rustworkx(self.core, names=self._name_of, kinds=kinds)

    def to_dot(self, kinds: Kinds = None) -> str:
        """The graph in Graphviz's DOT."""
        return reports.to_dot(self.core, names=self._name_of, kinds=kinds)

    def to_json(self, kinds: Kinds = None) -> str:
        """The graph as JSON text."""
        return reports.to_json(self.core, names=self._name_of, kinds=kinds)
