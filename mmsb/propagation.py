"""How pages of a State depend on pages: depend(), undepend(), and the graph.

Mixed into State; the waves themselves are run by mmsb._core.engine. docs/understand/propagation.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mmsb._core.batch import Batch
from mmsb._core.engine import Engine
from mmsb._core.graph import column
from mmsb.errors import (
    EdgeNotFoundError,
    GraphCycleError,
    LinkError,
    MMSBError,
    PageNotFoundError,
    PluginError,
    SemiringError,
    described,
)
from mmsb.graph import add_edges
from mmsb.links import KINDS, Link, exact, type_name
from mmsb.linktable import corrupt
from mmsb.merging import Merging
from mmsb.policies import Policies

if TYPE_CHECKING:
    from mmsb._core.graph import Graph
    from mmsb._core.page import Page
    from mmsb.pagegraph import PageGraph

__all__ = ["Propagation"]

Call = tuple[Callable[..., Any], str | None, tuple[int, ...] | None]  # a function, dtype, shape

NOT_REGISTERED = "its function is not registered"


class Propagation(Merging, Policies):
    """The part of State that makes pages depend on pages."""

    # ---- the graph

    @property
    def graph(self) -> PageGraph:
        """The graph of the pages: parents, children, levels, cycles, exports. See mmsb.pagegraph.PageGraph."""
        from mmsb.pagegraph import PageGraph

        self._check_open()
        return PageGraph(self._need_engine().graph, self.page_id_of, self._name_of.get, self._links.of)

    def depend(
        self,
        child: int | str | Page,
        on: Sequence[int | str | Page] | int | str | Page,
        fn: Callable[..., Any] | None = None,
        *,
        kind: str = "data",
        link: Link | None = None,
        dtype: str | None = None,
        shape: Sequence[int] | None = None,
        source: str | None = None,
    ) -> None:
        """Makes page `child` depend on the pages in `on`.

        kind "data": the child is computed, by `fn(out, *parents)` or by a native `link` (mmsb.links), now and whenever
        a parent changes; nobody else writes it. `out` is writable and holds the child's bytes, the parents are
        read-only, all of them bytes (memoryview) or, with `dtype`, flat ndarrays (`shape`: that of `out`); what `fn`
        returns, if not None, is the new content. "control": the child becomes stale when a parent changes. "device",
        "compiler": listeners are told.

        After reopening, functions must be registered again by the same call; then they run again. LinkError when the
        link does not fit its pages or the child is computed otherwise already, GraphCycleError, EdgeExistsError,
        PageNotFoundError; then nothing changed.
        """
        self._check_idle(to_write=True)
        child_id = self.page_id_of(child)
        parents = self._page_ids_of(on)
        wanted, call = self._make_link(child_id, parents, fn, kind, link, dtype, shape, self._page_size)
        with self._exclusive():
            old = self._links.of(child_id, "data") if kind == "data" else None
            if old is not None:
                if not old.same_rule(wanted):
                    self._check_free(child_id, wanted)
                engine = self._need_engine()
                fitting = engine.fit(child_id, wanted, call, self._page_size)
                self._links.renew(child_id)
                engine.take(child_id, wanted, call, fitting)
        if old is not None:
            self._renewed(engine)
            return
        with Batch(self, source=source) as batch:
            batch._link(child_id, wanted, call)

    def _make_link(
        self,
        child: int,
        parents: tuple[int, ...],
        fn: Callable[..., Any] | None,
        kind: str,
        link: Link | None,
        dtype: str | None,
        shape: Sequence[int] | None,
        size_of: Callable[[int], int],
    ) -> tuple[Link, Call | None]:
        """The Link that depend() asks for, and how its function is called. Whether it fits is checked later."""
        if kind not in KINDS:
            raise ValueError(f"Unknown kind of edge {kind!r}. Use one of {', '.join(KINDS)}.")
        if not parents:
            raise self._refused(child, parents, "there is no parent")
        if kind != "data":
            if fn is not None or link is not None:
                raise self._refused(child, parents, f"an edge of kind {kind!r} computes nothing")
            if len(set(parents)) != len(parents):
                raise self._refused(child, parents, "a parent is named twice")
            return Link("none", kind, parents), None
        if (fn is None) == (link is None):
            raise self._refused(child, parents, "it takes either a function or a link")
        if fn is not None:
            if not callable(fn):
                raise TypeError(f"fn must be callable, not {type(fn).__name__}")
            call = (fn, dtype, tuple(shape) if shape is not None else None)
            name = f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', '')}"
            return Link("call", parents=parents, function=name), call
        if not isinstance(link, Link) or link.type in ("call", "none"):
            raise TypeError("link must come from mmsb.links, like links.passthrough()")
        dtype_name, shape_of_weights = type_name(link.dtype), link.rows or link.columns
        wanted = Link(
            link.type,
            "data",
            parents,
            link.semiring,
            dtype_name,
            link.accumulate,
            link.weights,
            link.copies,
            link.rows,
            link.columns,
        )
        if link.type == "matrix" or not shape_of_weights:
            return wanted, None
        self._need_engine().fit(child, wanted, None, size_of)  # the log does not keep that shape
        return wanted._replace(rows=0, columns=0), None

    @staticmethod
    def _refused(child: int, parents: Sequence[int], reason: str) -> LinkError:
        return LinkError(
            f"Page {child} cannot be computed from pages {list(parents)}: {reason}. Nothing changed.",
            child=child,
            parents=tuple(parents),
            reason=reason,
        )

    def _check_arrays(
        self, child: int, parents: Sequence[int], dtype: str | None, shape: Any, size_of: Callable[[int], int]
    ) -> None:
        """LinkError when the pages of a function are no arrays of this type. TypeError for no type at all."""
        if dtype is None:
            if shape is not None:
                raise self._refused(child, parents, "a shape needs a dtype")
            return
        import numpy

        kind = numpy.dtype(dtype)
        if kind.hasobject or not kind.itemsize:
            raise self._refused(child, parents, f"pages cannot hold {kind}")
        for page_id in (child, *parents):
            size = size_of(page_id)
            if size % kind.itemsize:
                raise self._refused(child, parents, f"page {page_id} of {size} bytes holds no whole number of {kind}")
        count = size_of(child) // kind.itemsize
        if shape is not None and (min(shape, default=0) < 1 or math.prod(shape) != count):
            raise self._refused(child, parents, f"the page has {count} elements, which is not {shape}")

    def depend_many(
        self,
        parents: Any,
        children: Any,
        weights: Any = None,
        *,
        semiring: str,
        dtype: str,
        source: str | None = None,
    ) -> None:
        """Many semiring links in one commit: the i-th edge leads from page parents[i] to page children[i] and weighs
        weights[i] (None: nothing is multiplied). A child's parents are taken in the order of the arrays.

        parents, children: page ids, equally long; weights: as many numbers, or rows of a weight for each lane. Errors
        as of depend() and links.semiring(); TypeError for ids that are no integers, ValueError for negative ones.
        """
        import numpy

        self._check_idle(to_write=True)
        parent_ids = numpy.asarray(column(parents, "parents"))
        child_ids = numpy.asarray(column(children, "children", len(parent_ids)))
        dtype = type_name(dtype)
        if not child_ids.size:
            return
        order = numpy.argsort(child_ids, kind="stable")
        child_ids, parent_ids = child_ids[order], parent_ids[order]
        values = None if weights is None else exact(weights, dtype)
        if values is not None:
            if len(values) != len(order):
                raise ValueError(f"There are {len(order)} edges and {len(values)} weights. Use as many.")
            values = values[order]
        starts = numpy.flatnonzero(numpy.r_[True, child_ids[1:] != child_ids[:-1]])
        ends = numpy.r_[starts[1:], len(child_ids)]
        with Batch(self, source=source) as batch:
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                link = Link(
                    "semiring",
                    parents=tuple(parent_ids[start:end].tolist()),
                    semiring=semiring,
                    dtype=dtype,
                    weights=b"" if values is None else values[start:end].tobytes(),
                )
                batch._link(int(child_ids[start]), link)

    def _check_free(self, child: int, link: Link, merges: bool = False) -> None:
        """LinkError when a page cannot be computed, however that is: it is already, or `merges`."""
        old = self._links.of(child)
        if old is not None:
            reason = f"it is computed already, from pages {list(old.parents)}; use undepend() first"
            raise self._refused(child, link.parents, reason)
        if merges or (self._has_page(child) and self._merges(child)):
            raise self._refused(child, link.parents, "a merge page is written, and not computed")

    def _remove_edges(self, graph: Graph, edges: Iterable[tuple[int, int, str]]) -> None:
        """Removes those of the edges that no link of the State asks for, and pages that are left without any."""
        pages: set[int] = set()
        for parent, child, kind in edges:
            link = self._links.of(child, kind)
            if link is None and kind == "data":
                self._need_engine().clear_rule(child)
            if graph.has_edge(parent, child, kind) and (link is None or parent not in link.parents):
                graph.remove_edge(parent, child, kind)
            pages.update((parent, child))
        for page_id in sorted(pages):
            if page_id in graph and not graph.degree(page_id):
                graph.remove_page(page_id)

    def _set_without_semiring(self, engine: Engine, child: int, link: Link, error: MMSBError) -> None:
        """A link of the log whose semiring is not there: the page is stale, and every wave fails to compute it."""

        def refuse(*pages: Any) -> None:
            raise error.with_traceback(None)

        refused = Link("call", parents=link.parents)
        engine.set_rule(child, refused, engine.fit(child, refused, None, self._page_size))
        engine.functions[child] = (refuse, None, None)
        if not self.read_only:
            self._links.settle({child: described(error)}, ())

    def undepend(
        self,
        child: int | str | Page,
        on: Sequence[int | str | Page] | int | str | Page | None = None,
        *,
        kind: str = "data",
        source: str | None = None,
    ) -> None:
        """The page no longer depends on others by edges of this kind; with `on`, for edges that compute nothing, only
        on these. It keeps its bytes, and may be written again. EdgeNotFoundError.
        """
        self._check_idle(to_write=True)
        with Batch(self, source=source) as batch:
            batch.undepend(child, on, kind=kind)

    def _check_unlink(self, child_id: int, kind: str, parents: Sequence[int]) -> None:
        """EdgeNotFoundError, LinkError when the page has no such link that may go."""
        link = self._links.of(child_id, kind)
        if link is None or any(parent not in link.parents for parent in parents):
            raise EdgeNotFoundError(
                f"Page {child_id} does not depend on {list(parents) or 'any page'} by an edge of kind {kind!r}.",
                parent=parents[0] if parents else None,
                child=child_id,
                kind=kind,
            )
        if kind == "data" and parents and set(parents) != set(link.parents):
            raise self._refused(child_id, parents, "a computed page loses its link as a whole")

    def _unlinked(self, child: int, kind: str, parents: Sequence[int]) -> None:
        """A commit has removed a link: the engine follows."""
        engine = self._need_engine()
        if kind == "data":
            engine.clear_rule(child)
            self._failures.pop(child, None)
        above = parents or (engine.graph.parents(child, kind) if child in engine.graph else ())
        gone = [(parent, child, kind) for parent in above]
        self._remove_edges(engine.graph, gone)
        if self._events is not None:
            self._events.parents_gone.setdefault((child, kind), deque()).append(list(above))

    def _graph_parents(self, page_id: int) -> list[int]:
        links = self._links.touching(page_id)
        return sorted({parent for child, link in links if child == page_id for parent in link.parents})

    def _graph_children(self, page_id: int) -> list[int]:
        return sorted({child for child, link in self._links.touching(page_id) if page_id in link.parents})

    def _check_resize(self, page_id: int, touching: list[tuple[int, Link]]) -> None:
        """Pages in native links keep their size."""
        for child, link in touching:
            if link.kind == "data" and (link.type != "call" or child == page_id):
                raise self._refused(child, link.parents, f"page {page_id} would change its size. Remove the link first")

    def _start_engine(self) -> None:
        """After opening: the graph as the log describes it. What a commit touched and no wave covered is stale."""
        self._links.distrust()
        if not self._links:
            return
        engine = self._need_engine()
        try:
            links = list(self._links.items())
            add_edges(engine.graph, self._links.edges(links))
            for child, link in links:
                if link.kind == "data":
                    self._start_rule(engine, child, link)
                else:
                    engine.fit(child, link, None, self._page_size)
        except (LinkError, GraphCycleError, PageNotFoundError) as error:
            raise corrupt(self.seq, str(error)) from error

    def _start_rule(self, engine: Engine, child: int, link: Link) -> None:
        """A page is computed by a link that stands in the log. LinkError."""
        if link.type == "call" and not self.read_only:
            self._links.settle({child: NOT_REGISTERED}, ())
        try:
            fitting = engine.fit(child, link, None, self._page_size)
        except (PluginError, SemiringError) as error:
            self._set_without_semiring(engine, child, link, error)
            return
        engine.set_rule(child, link, fitting)
