"""The page graph, literally: a set of pages and a dictionary of edges, every question answered from its definition."""

from __future__ import annotations

from collections.abc import Iterable

KINDS = ("data", "control", "device", "compiler")


class GraphModel:
    """Pages and edges {(parent, child, kind): link}. Nothing is checked; cycle() says what Graph would refuse."""

    def __init__(self) -> None:
        self.pages: set[int] = set()
        self.edges: dict[tuple[int, int, str], int] = {}

    def copy(self) -> GraphModel:
        """Another model of the same graph."""
        other = GraphModel()
        other.pages, other.edges = set(self.pages), dict(self.edges)
        return other

    def detach(self, page: int) -> None:
        """Takes a page and its edges out."""
        self.pages.remove(page)
        self.edges = {edge: link for edge, link in self.edges.items() if page not in edge[:2]}

    def listed(self, kinds: Iterable[str] = KINDS) -> list[tuple[int, int, str, int]]:
        """Edges as Graph.edges() lists them."""
        chosen = [(p, c, KINDS.index(kind), link) for (p, c, kind), link in self.edges.items() if kind in kinds]
        return [(p, c, KINDS[number], link) for p, c, number, link in sorted(chosen)]

    def children(self, page: int, kinds: Iterable[str] = KINDS) -> list[int]:
        """Direct children, ascending."""
        return sorted({c for p, c, kind in self.edges if p == page and kind in kinds})

    def parents(self, page: int, kinds: Iterable[str] = KINDS) -> list[int]:
        """Direct parents, ascending."""
        return sorted({p for p, c, kind in self.edges if c == page and kind in kinds})

    def descendants(self, page: int, kinds: Iterable[str] = KINDS) -> list[int]:
        """Children, their children and so on, ascending."""
        found: set[int] = set()
        more = {page}
        while more:
            more = {child for one in more for child in self.children(one, kinds)} - found
            found |= more
        return sorted(found)

    def ancestors(self, page: int, kinds: Iterable[str] = KINDS) -> list[int]:
        """Pages of which this one is a descendant, ascending."""
        return [one for one in sorted(self.pages) if page in self.descendants(one, kinds)]

    def path(self, start: int, end: int, kinds: Iterable[str] = KINDS) -> list[int] | None:
        """The smallest of the shortest paths."""
        paths = [[start]]
        for _ in self.pages:
            done = [path for path in paths if path[-1] == end]
            if done:
                return min(done)
            # A path that comes to a page another one of this length came to, or a shorter one, must be the smaller.
            best: dict[int, list[int]] = {}
            for path in sorted(paths, reverse=True):
                for child in self.children(path[-1], kinds):
                    best[child] = [*path, child]
            paths = list(best.values())
        return None

    def cycle(self, parent: int, child: int) -> list[int] | None:
        """The cycle that an edge would close, from the parent on."""
        if parent == child:
            return [parent]
        path = self.path(child, parent)
        return None if path is None else [parent, *path[:-1]]

    def level(self, page: int) -> int:
        """Edges on the longest path that ends at the page: rounds until no page has a parent that is left."""
        left, level = set(self.ancestors(page)) | {page}, 0
        while left != {page}:
            left = {one for one in left if any(parent in left for parent in self.parents(one))}
            level += 1
        return level

    def order(self) -> list[int]:
        """By level, then by id."""
        return sorted(self.pages, key=lambda page: (self.level(page), page))

    def affected(self, sources: Iterable[int], kinds: Iterable[str], unchanged: Iterable[int] = ()) -> list[int]:
        """The wave: pages in order, each visited if a parent changed."""
        changed, visited = set(sources), []
        for page in self.order():
            if any(parent in changed for parent in self.parents(page, kinds)):
                visited.append(page)
                if page not in unchanged:
                    changed.add(page)
        return visited

    def critical_path(self, weights: dict[int, float], kinds: Iterable[str] = KINDS) -> tuple[float, list[int]]:
        """The heaviest path; ties by the smallest end, then by the smallest page before it."""
        best: dict[int, tuple[float, list[int]]] = {}
        for page in self.order():
            parents = [(-best[parent][0], parent) for parent in self.parents(page, kinds)]
            weight, path = best[min(parents)[1]] if parents else (0.0, [])
            best[page] = (weight + weights[page], [*path, page])
        return best[min((-best[page][0], page) for page in best)[1]] if best else (0.0, [])

    def redundant(self, kinds: Iterable[str] = KINDS) -> list[tuple[int, int]]:
        """Pairs joined by an edge and through another child as well."""
        pairs = {(p, c) for p, c, kind in self.edges if kind in kinds}
        return sorted(
            (p, c) for p, c in pairs if any(c in self.descendants(other, kinds) for other in self.children(p, kinds))
        )
