"""The graph of a State's pages, for asking. Every answer is in pages' ids; docs/understand/graph.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mmsb import graph as reports
from mmsb.links import KINDS

if TYPE_CHECKING:
    from mmsb._core.graph import Graph
    from mmsb.graph import Reduction
    from mmsb.links import Link

Kinds = Any


class PageEdge(NamedTuple):
    """An edge between pages. `weight`: the number that a semiring link multiplies the parent with, None without one."""

    parent: int
    child: int
    kind: str
    link: int
    weight: float | None


class PageGraph:
    """`state.graph`, and that of a past state. Pages are given by id, name or Page; a page without edges has no
    parents and no children.

    `kinds`: None (edges of every kind), a kind ("data", "control", "device", "compiler"), or several. Lists of pages
    are ids, ascending where nothing else is said. PageNotFoundError, ValueError for an unknown kind.
    """

    def __init__(
        self,
        core: Graph,
        page_id_of: Callable[[Any], int],
        name_of: Callable[[int], str | None],
        link_of: Callable[[int, str], Link | None],
    ) -> None:
        self.core = core
        self._page_id_of, self._name_of, self._link_of = page_id_of, name_of, link_of

    def _of(self, page: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
        page_id = self._page_id_of(page)
        return ask(page_id, *arguments) if page_id in self.core else []

    def __len__(self) -> int:
        return self.core.edge_count

    def edges(self, kinds: Kinds = None) -> list[PageEdge]:
        """All edges, by parent, child and kind."""
        weights: dict[int, dict[int, float]] = {}
        found = []
        for edge in self.core.edges(kinds):
            if edge.kind == "data" and edge.child not in weights:
                weights[edge.child] = weights_of(self._link_of(edge.child, "data"))
            found.append(PageEdge(*edge, weights[edge.child].get(edge.parent) if edge.kind == "data" else None))
        return found

    def link(self, page: Any, kind: str = "data") -> Link | None:
        """How a page depends on its parents by edges of this kind (mmsb.links.Link); None when it does not.

        A data link says how the page is computed: its `type`, `parents`, and for the types that have them `semiring`,
        `dtype`, `weights` (packed lanes), `copies`, `function`.
        """
        if kind not in KINDS:
            raise ValueError(f"Unknown kind of edge {kind!r}. Use one of {', '.join(KINDS)}.")
        return self._link_of(self._page_id_of(page), kind)

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

    def path(self, start: Any, end: Any, kinds: Kinds = None) -> list[int] | None:
        """Pages along the shortest path from one page to the other, both included; None when there is none."""
        first, last = self._page_id_of(start), self._page_id_of(end)
        if first == last:
            return [first]
        return self.core.path(first, last, kinds) if first in self.core and last in self.core else None

    def affected(
        self, pages: Iterable[Any], kinds: Kinds = ("data", "control"), unchanged: Iterable[Any] = ()
    ) -> list[int]:
        """Pages that depend on one of `pages`, in the order in which a wave visits them; it ends at the pages in
        `unchanged`.
        """
        origins, ends = (
            [page_id for page_id in map(self._page_id_of, some) if page_id in self.core] for some in (pages, unchanged)
        )
        return self.core.affected(origins, kinds, ends)

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

    def level(self, page: Any) -> int:
        """Number of edges on the longest path that ends at the page; 0 without edges."""
        page_id = self._page_id_of(page)
        return self.core.level(page_id) if page_id in self.core else 0

    def order(self) -> list[int]:
        """Pages with edges in the order in which waves visit them: by level, then by id."""
        return self.core.order()

    def critical_path(
        self, weights: Callable[[int], float] | Mapping[int, float] | None = None, kinds: Kinds = None
    ) -> tuple[float, list[int]]:
        """(weight, pages) of the heaviest path; `weights`: a page's, by id (None: 1 each), of a callable or mapping.
        TypeError, ValueError; PageNotFoundError for a page that a mapping lacks.
        """
        return self.core.critical_path(weights, kinds)

    def transitive_reduction(self, kinds: Kinds = None) -> Reduction:
        """A report: which edges say nothing that a longer path does not say too."""
        return reports.transitive_reduction(self.core, kinds)

    def to_networkx(self, kinds: Kinds = None) -> Any:
        """A networkx.MultiDiGraph. MissingPackageError without networkx."""
        return reports.to_networkx(self, names=self._name_of, kinds=kinds)

    def to_rustworkx(self, kinds: Kinds = None) -> Any:
        """A rustworkx.PyDiGraph. MissingPackageError without rustworkx."""
        return reports.to_rustworkx(self, names=self._name_of, kinds=kinds)

    def to_dot(self, kinds: Kinds = None) -> str:
        """The graph in Graphviz's DOT."""
        return reports.to_dot(self, names=self._name_of, kinds=kinds)

    def to_json(self, kinds: Kinds = None) -> str:
        """The graph as JSON text."""
        return reports.to_json(self, names=self._name_of, kinds=kinds)


def weights_of(link: Link | None) -> dict[int, float]:
    """What a semiring link multiplies each parent with, where that is one number."""
    if link is None or link.type != "semiring" or not link.weights:
        return {}
    import numpy

    from mmsb._core.semiring import lane_type

    dtype = numpy.dtype(lane_type(link.dtype))
    if len(link.weights) != len(link.parents) * dtype.itemsize:
        return {}
    uses = Counter(link.parents)
    weights = numpy.frombuffer(link.weights, dtype).tolist()
    return {parent: weight for parent, weight in zip(link.parents, weights, strict=True) if uses[parent] == 1}
