"""How pages of a State depend on pages: depend(), undepend(), the graph, and when waves run.

Mixed into State; the waves themselves are run by mmsb._core.engine. docs/understand/propagation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mmsb._core.batch import Batch
from mmsb._core.engine import Engine
from mmsb._core.semiring import Semiring, builtin
from mmsb._core.state import Core
from mmsb.errors import (
    EdgeNotFoundError,
    LinkError,
    StalePageError,
    UnknownSemiringError,
)
from mmsb.links import KINDS, Link

if TYPE_CHECKING:
    from mmsb._core.log import Cursor
    from mmsb._core.page import Page
    from mmsb.dispatcher import Dispatcher, Subscription
    from mmsb.pagegraph import PageGraph

__all__ = ["Propagation"]

NOT_REGISTERED = "its function is not registered"


# How many bytes a level must read before a policy with `threads` spreads it, unless the policy says otherwise.
LEAST_BYTES = 1 << 20


def policy_of(policy: Any) -> Any:
    """The policy of a name, or a policy itself; None for "immediate". PluginError, TypeError."""
    if policy is None or policy == "immediate":
        return None
    if isinstance(policy, str):
        from mmsb.plugin.manager import installed

        return installed().find("policies", policy).make()
    missing = [name for name in ("after_commit", "before_read", "close") if not callable(getattr(policy, name, None))]
    if missing:
        raise TypeError(f"a policy is a name or has after_commit, before_read and close; this has no {missing[0]}")
    return policy


class Propagation(Core):
    """The part of State that makes pages depend on pages."""

    _engine: Engine | None
    _policy: Any = None
    _log: Any
    _events: Dispatcher | None = None
    # Finds semirings that are not built in: (name, dtype) to a Semiring. Set where plugins are known.
    _find_semiring: Callable[[str, str], Any] | None = None

    # ---- the graph

    @property
    def graph(self) -> PageGraph:
        """The graph of the pages: parents, children, levels, cycles, exports. See mmsb.pagegraph.PageGraph."""
        from mmsb.pagegraph import PageGraph

        self._check_open()
        return PageGraph(self)

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
        child_id = self.page_id_of(child)
        given = [on] if isinstance(on, (int, str)) or hasattr(on, "page_id") else list(on)  # type: ignore[arg-type]
        parents = tuple(self.page_id_of(parent) for parent in given)
        wanted = self._make_link(child_id, parents, fn, kind, link)
        old = self._links.of(child_id, "data") if kind == "data" else None
        if old is not None:
            self._register_again(child_id, old, wanted)
        else:
            self._add_links([(child_id, wanted)], source)
        if kind == "data":
            engine = self._need_engine()
            if fn is not None:
                engine.functions[child_id] = (fn, dtype, tuple(shape) if shape is not None else None)
            engine.force(child_id)
            self._changed_graph(engine)

    def _make_link(
        self, child: int, parents: tuple[int, ...], fn: Callable[..., Any] | None, kind: str, link: Link | None
    ) -> Link:
        if kind not in KINDS:
            raise ValueError(f"Unknown kind of edge {kind!r}. Use one of {', '.join(KINDS)}.")
        if not parents:
            raise self._refused(child, parents, "there is no parent")
        if kind != "data":
            if fn is not None or link is not None:
                raise self._refused(child, parents, f"an edge of kind {kind!r} computes nothing")
            if len(set(parents)) != len(parents):
                raise self._refused(child, parents, "a parent is named twice")
            return Link("none", kind, parents)
        if (fn is None) == (link is None):
            raise self._refused(child, parents, "it takes either a function or a link")
        if fn is not None:
            if not callable(fn):
                raise TypeError(f"fn must be callable, not {type(fn).__name__}")
            name = f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', '')}"
            return Link("call", parents=parents, function=name)
        if not isinstance(link, Link) or link.type in ("call", "none"):
            raise TypeError("link must come from mmsb.links, like links.passthrough()")
        wanted = replace(link, parents=parents)
        self._check_link(child, wanted)
        return wanted

    @staticmethod
    def _refused(child: int, parents: Sequence[int], reason: str) -> LinkError:
        return LinkError(
            f"Page {child} cannot be computed from pages {list(parents)}: {reason}. Nothing changed.",
            child=child,
            parents=tuple(parents),
            reason=reason,
        )

    def _semiring_of(self, link: Link) -> Semiring | None:
        """The semiring of a link. UnknownSemiringError."""
        if not link.semiring:
            return None
        try:
            return builtin.get(link.semiring, link.dtype)
        except UnknownSemiringError:
            if self._find_semiring is None:
                raise
            found: Semiring = self._find_semiring(link.semiring, link.dtype)
            return found

    def _check_link(self, child: int, link: Link) -> None:
        """LinkError when a native link does not fit its pages as they are."""
        semiring = self._semiring_of(link)
        sizes = [self._page_info(parent)[0] for parent in link.parents]
        size = self._page_info(child)[0]
        if link.type == "copy" and not link.copies and (len(sizes) != 1 or sizes[0] != size):
            raise self._refused(child, link.parents, "what is passed through has one parent of the same size")
        if link.weights and semiring is not None and len(link.weights) != len(sizes) * semiring.lane_bytes:
            raise self._refused(child, link.parents, "there is not one weight per parent")
        why = self._need_engine().check(child, link, sizes, size, semiring)
        if why is not None:
            raise self._refused(child, link.parents, why)

    def _register_again(self, child: int, old: Link, wanted: Link) -> None:
        """A page that is computed already: the same call again is welcome, any other is an error."""
        if not old.same_rule(wanted):
            raise LinkError(
                f"Page {child} is computed by another link already, from pages {list(old.parents)}. "
                "Remove that with state.undepend() first.",
                child=child,
                parents=old.parents,
                reason="it is computed otherwise already",
            )

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

        parents, children: page ids, equally long; weights: numbers. Errors as of depend().
        """
        import numpy

        child_ids = numpy.asarray(children, dtype=numpy.uint64)
        parent_ids = numpy.asarray(parents, dtype=numpy.uint64)
        if child_ids.ndim != 1 or child_ids.shape != parent_ids.shape:
            raise ValueError("parents and children must be one-dimensional and equally long. Check their shapes.")
        if not child_ids.size:
            return
        order = numpy.argsort(child_ids, kind="stable")
        child_ids, parent_ids = child_ids[order], parent_ids[order]
        values = None if weights is None else numpy.ascontiguousarray(numpy.asarray(weights, dtype=dtype)[order])
        starts = numpy.flatnonzero(numpy.r_[True, child_ids[1:] != child_ids[:-1]])
        ends = numpy.r_[starts[1:], len(child_ids)]
        wanted = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            link = Link(
                "semiring",
                parents=tuple(parent_ids[start:end].tolist()),
                semiring=semiring,
                dtype=dtype,
                weights=b"" if values is None else values[start:end].tobytes(),
            )
            child = int(child_ids[start])
            for page in (child, *link.parents):
                self.page_id_of(page)
            if self._links.of(child) is not None:
                raise self._refused(child, link.parents, "it is computed already")
            self._check_link(child, link)
            wanted.append((child, link))
        self._add_links(wanted, source)
        engine = self._need_engine()
        for child, _ in wanted:
            engine.force(child)
        self._changed_graph(engine)

    def _add_links(self, wanted: list[tuple[int, Link]], source: str | None) -> None:
        """Commits links; the graph takes their edges first, because it says whether there is a cycle."""
        engine = self._need_engine()
        edges = [(parent, child, link.kind) for child, link in wanted for parent in dict.fromkeys(link.parents)]
        graph = engine.graph
        with self._exclusive():
            for child, link in wanted:
                graph.add_pages((child, *link.parents))
            graph.add_edges(
                [edge[0] for edge in edges], [edge[1] for edge in edges], [KINDS.index(edge[2]) for edge in edges]
            )
            try:
                with Batch(self, source=source) as batch:
                    for child, link in wanted:
                        batch._link(child, link)
            except BaseException:
                for parent, child, kind in edges:
                    graph.remove_edge(parent, child, kind)
                raise
            for child, link in wanted:
                if link.kind == "data":
                    self._set_rule(engine, child, link)

    def _set_rule(self, engine: Engine, child: int, link: Link) -> None:
        sizes = [self._page_info(parent)[0] for parent in link.parents]
        engine.set_rule(child, link, sizes, self._semiring_of(link))

    def undepend(
        self,
        child: int | str | Page,
        on: Sequence[int | str | Page] | None = None,
        *,
        kind: str = "data",
        source: str | None = None,
    ) -> None:
        """The page no longer depends on others by edges of this kind; with `on`, for edges that compute nothing, only
        on these. It keeps its bytes, and may be written again. EdgeNotFoundError.
        """
        child_id = self.page_id_of(child)
        link = self._links.of(child_id, kind)
        parents = () if on is None else tuple(self.page_id_of(parent) for parent in on)
        if link is None or any(parent not in link.parents for parent in parents):
            raise EdgeNotFoundError(
                f"Page {child_id} does not depend on {list(parents) or 'any page'} by an edge of kind {kind!r}.",
                parent=parents[0] if parents else None,
                child=child_id,
                kind=kind,
            )
        if kind == "data" and parents and set(parents) != set(link.parents):
            raise self._refused(child_id, parents, "a computed page loses its link as a whole")
        with Batch(self, source=source) as batch:
            batch._unlink(child_id, kind, () if kind == "data" else parents)

    def _unlinked(self, child: int, kind: str, parents: Sequence[int]) -> None:
        """A commit has removed a link: the engine follows."""
        engine = self._engine
        assert engine is not None
        gone = [edge for edge in engine.graph.edges(kind) if edge.child == child] if child in engine.graph else []
        gone = [edge for edge in gone if not parents or edge.parent in parents]
        for edge in gone:
            engine.graph.remove_edge(edge.parent, child, kind)
        if kind == "data":
            engine.clear_rule(child, Link("call") if child in engine.functions else Link("none"))
            self._failures.pop(child, None)
        if self._events is not None:
            self._events.unlinked[child, kind] = [edge.parent for edge in gone]

    def _left_graph(self, page_id: int) -> None:
        """A page was deleted."""
        engine = self._engine
        if engine is not None and page_id in engine.graph:
            engine.graph.remove_page(page_id, detach=True)

    def _graph_parents(self, page_id: int) -> list[int]:
        return sorted({parent for child, link in self._links.items() if child == page_id for parent in link.parents})

    def _graph_children(self, page_id: int) -> list[int]:
        return sorted({child for child, link in self._links.items() if page_id in link.parents})

    def _check_resize(self, page_id: int) -> None:
        """Pages in native links keep their size."""
        for child, link in self._links.touching(page_id):
            if link.kind == "data" and (link.type != "call" or child == page_id):
                raise self._refused(child, link.parents, f"page {page_id} would change its size. Remove the link first")

    # ---- waves

    def _need_engine(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(self)
            self._use_policy(self._engine)
        return self._engine

    def _use_policy(self, engine: Engine) -> None:
        engine.policy = self._policy
        engine.use_threads(getattr(self._policy, "threads", 1), getattr(self._policy, "least_bytes", LEAST_BYTES))

    def _start_engine(self) -> None:
        """After opening: the graph as the log describes it. What a commit touched and no wave covered is stale."""
        if not self._links:
            self._forget_touched()
            return
        engine = self._need_engine()
        edges = [
            (parent, child, link.kind) for child, link in self._links.items() for parent in dict.fromkeys(link.parents)
        ]
        engine.graph.add_pages(sorted({page for edge in edges for page in edge[:2]}))
        engine.graph.add_edges(
            [edge[0] for edge in edges], [edge[1] for edge in edges], [KINDS.index(edge[2]) for edge in edges]
        )
        engine.mark()
        if not self.read_only:
            engine.forget()
        for child, link in self._links.items():
            if link.kind != "data":
                continue
            self._set_rule(engine, child, link)
            if link.type == "call" and not self.read_only:
                self._links.settle({child: NOT_REGISTERED}, ())

    def _changed_graph(self, engine: Engine) -> None:
        """A page was given a link: it is computed when the policy says so."""
        if engine.policy is None and not engine.held:
            engine.wave_now()
        else:
            engine.decide()
        self._tell()

    def propagate(self) -> int:
        """Computes everything that is not up to date, in one wave; also what failed before. Returns how many pages
        were computed.
        """
        self._check_open()
        engine = self._engine
        if engine is None:
            return 0
        before = engine.computed
        engine.propagate(retry=True)
        self._tell()
        return int(engine.computed - before)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, commits run no wave and no policy is asked; at the end they count as one commit. May be nested."""
        engine = self._need_engine()
        engine.hold()
        try:
            yield
        finally:
            engine.release()
            self._tell()

    @property
    def policy(self) -> Any:
        """What decides when waves run: None ("immediate": after every commit) or a mmsb.plugin.Policy. Set it to such
        an object, which then serves this State alone, or to the name of a policy that is built in or that a plugin
        brings; what is pending is computed first. PluginError when there is no such name.
        """
        return self._policy

    @policy.setter
    def policy(self, policy: Any) -> None:
        self._check_open()
        following, engine = policy_of(policy), self._need_engine()
        self._close_policy()
        if not self.read_only and (engine.pending or self._stale_pages()):
            engine.propagate()
        self._policy = following
        self._use_policy(engine)
        self._tell()

    def _close_policy(self) -> None:
        """The policy is not asked any more; it may run what is pending."""
        engine = self._engine
        if engine is not None and engine.policy is not None and not self.read_only and not self.poisoned:
            with self._exclusive():
                engine.policy.close(engine)
                engine.policy = None
        if engine is not None:
            engine.use_threads(1, 0)

    def _read_stale(self, page_id: int) -> None:
        engine = self._engine
        if engine is not None:
            readable = engine.before_read(page_id)
            self._tell()
            if readable:
                return
        reason = self._links.failed.get(page_id, "a page that it depends on changed since")
        raise StalePageError(
            f"Page {page_id} is not up to date: {reason}. Call state.propagate(), or set state.stale_reads to read it "
            "as it is.",
            page_id=page_id,
            reason=reason,
        ) from self._failures.get(page_id)

    # ---- events

    def subscribe(
        self,
        kinds: str | Iterable[str],
        handler: Callable[[Any], object],
        *,
        pages: Iterable[int | str | Page] | int | str | Page | None = None,
        source: str | None = None,
    ) -> Subscription:
        """Calls `handler(event)` for events of these kinds (one or several of mmsb.events.KINDS) from now on.

        pages: only events of these pages (ids, names or Pages, as they are now called). source: only events of commits
        with that source. Events come in the order of the log, after their commit is visible; what a handler raises
        is counted and kept from everybody else; what it writes is told after what is queued. ValueError for an unknown
        kind, PageNotFoundError.
        """
        from mmsb.dispatcher import Dispatcher

        self._check_open()
        if self._events is None:
            self._events = Dispatcher(self)
        return self._events.subscribe(kinds, handler, pages, source)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription, as its close() does."""
        subscription.close()

    def _cursor_at_end(self) -> Cursor:
        """A Cursor on the log behind its last frame. Call it inside _exclusive()."""
        log = self._log
        log.settle()
        cursor: Cursor = log.cursor(log.active)
        cursor.seek(log.active.tail, self.seq, self.time_ns, self.last_crc, self._segment_sources())
        return cursor

    def _tell(self) -> None:
        if self._events is not None:
            self._events.tell()

    def _marked(self, page_ids: list[int]) -> None:
        if self._events is not None:
            self._events.marked(page_ids)

    def _announce(self, kind: str, seq: int, *facts: Any) -> None:
        """Something happened that the log does not tell."""
        if self._events is not None:
            self._events.announce(kind, seq, *facts)
