"""The graph against the literal model: edges of all kinds come and go, one by one and in batches, cycles among them."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mmsb import errors
from mmsb.graph import KINDS, Graph
from mmsb.testing.graphs import GraphModel

# Few ids, in an order of their own in the table of nodes, and far apart, so that the sort has bytes to skip.
PAGES = [*range(1, 13), 300, 70_000, 1 << 40, (1 << 64) - 1]
SOME_KINDS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=4, unique=True)


class GraphMachine(RuleBasedStateMachine):
    """One Graph and one GraphModel that do the same things."""

    @initialize()
    def begin(self):
        self.graph, self.model = Graph(), GraphModel()

    def some_page(self, data):
        return data.draw(st.sampled_from(sorted(self.model.pages)), label="page")

    @rule(pages=st.lists(st.sampled_from(PAGES), max_size=6))
    def add_pages(self, pages):
        self.graph.add_pages(pages)
        self.model.pages.update(pages)

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data(), detach=st.booleans())
    def remove_page(self, data, detach):
        page = self.some_page(data)
        parents, children = self.model.parents(page), self.model.children(page)
        if (parents or children) and not detach:
            with pytest.raises(errors.PageHasEdgesError) as caught:
                self.graph.remove_page(page)
            assert (caught.value.parents, caught.value.children) == (parents, children)
        else:
            self.graph.remove_page(page, detach=detach)
            self.model.detach(page)

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data(), kind=st.sampled_from(KINDS), link=st.integers(0, (1 << 64) - 1))
    def add_edge(self, data, kind, link):
        parent, child = self.some_page(data), self.some_page(data)
        cycle = self.model.cycle(parent, child)
        if (parent, child, kind) in self.model.edges:
            with pytest.raises(errors.EdgeExistsError) as caught:
                self.graph.add_edge(parent, child, kind, link)
            assert (caught.value.parent, caught.value.child, caught.value.kind) == (parent, child, kind)
        elif cycle is not None:
            with pytest.raises(errors.GraphCycleError) as caught:
                self.graph.add_edge(parent, child, kind, link)
            assert caught.value.cycle == cycle
        else:
            self.graph.add_edge(parent, child, kind, link)
            self.model.edges[parent, child, kind] = link

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data(), count=st.integers(0, 40), forward=st.booleans())
    def add_edges(self, data, count, forward):
        """All or none; the first edge that cannot be added names the error, whichever way the batch is added."""
        after, index, wrong = self.model.copy(), 0, None
        edges = []
        for _ in range(count):
            parent, child = self.some_page(data), self.some_page(data)
            if forward and parent > child:
                parent, child = child, parent
            kind = data.draw(st.sampled_from(KINDS))
            if forward and (parent == child or (parent, child, kind) in after.edges):
                continue
            edges.append((parent, child, KINDS.index(kind), len(edges)))
            if wrong is None:
                if after.cycle(parent, child) is not None:
                    wrong, cycle = errors.GraphCycleError, after.cycle(parent, child)
                elif (parent, child, kind) in after.edges:
                    wrong = errors.EdgeExistsError
                else:
                    after.edges[parent, child, kind] = len(edges) - 1
                    index += 1
        columns = [list(column) for column in zip(*edges, strict=True)] or [[], [], [], []]
        if wrong is None:
            self.graph.add_edges(*columns)
            self.model = after
        else:
            with pytest.raises(wrong) as caught:
                self.graph.add_edges(*columns)
            assert caught.value.index == index
            if wrong is errors.GraphCycleError:
                assert caught.value.cycle == cycle

    @precondition(lambda self: self.model.edges)
    @rule(data=st.data(), all_kinds=st.booleans())
    def remove_edge(self, data, all_kinds):
        parent, child, kind = data.draw(st.sampled_from(sorted(self.model.edges)))
        self.graph.remove_edge(parent, child, None if all_kinds else kind)
        for gone in KINDS if all_kinds else (kind,):
            self.model.edges.pop((parent, child, gone), None)
        with pytest.raises(errors.EdgeNotFoundError):
            self.graph.remove_edge(parent, child, kind)

    @precondition(lambda self: self.model.edges)
    @rule(data=st.data(), link=st.integers(0, (1 << 64) - 1))
    def set_link(self, data, link):
        parent, child, kind = data.draw(st.sampled_from(sorted(self.model.edges)))
        assert self.graph.link(parent, child, kind) == self.model.edges[parent, child, kind]
        self.graph.set_link(parent, child, link, kind)
        self.model.edges[parent, child, kind] = link

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data(), kinds=SOME_KINDS)
    def ask_one_page(self, data, kinds):
        page, other = self.some_page(data), self.some_page(data)
        assert self.graph.parents(page, kinds) == self.model.parents(page, kinds)
        assert self.graph.children(page, kinds) == self.model.children(page, kinds)
        assert self.graph.ancestors(page, kinds) == self.model.ancestors(page, kinds)
        assert self.graph.descendants(page, kinds) == self.model.descendants(page, kinds)
        assert self.graph.path(page, other, kinds) == self.model.path(page, other, kinds)
        assert self.graph.level(page) == self.model.level(page)
        assert self.graph.has_edge(page, other, kinds) == (other in self.model.children(page, kinds))

    @precondition(lambda self: self.model.pages)
    @rule(data=st.data(), kinds=SOME_KINDS)
    def wave(self, data, kinds):
        sources = data.draw(st.lists(st.sampled_from(sorted(self.model.pages)), max_size=4))
        unchanged = data.draw(st.lists(st.sampled_from(sorted(self.model.pages)), max_size=4))
        assert self.graph.affected(sources, kinds) == self.model.affected(sources, kinds)
        assert self.graph.affected(sources, kinds, unchanged) == self.model.affected(sources, kinds, unchanged)

    @precondition(lambda self: self.model.pages)
    @rule(kinds=SOME_KINDS, factor=st.sampled_from([0, 1, 7]))
    def report(self, kinds, factor):
        weights = {page: float(page * factor % 5) for page in self.model.pages}
        assert self.graph.critical_path(weights, kinds) == self.model.critical_path(weights, kinds)
        assert self.graph.redundant(kinds) == self.model.redundant(kinds)
        assert self.graph.edges(kinds) == self.model.listed(kinds)

    @rule()
    def order(self):
        """Not after every step, so that levels are brought up to date after several."""
        assert self.graph.order() == self.model.order()

    @invariant()
    def same(self):
        if hasattr(self, "graph"):
            assert self.graph.check() is None  # among others: the kept order holds for every edge
            assert self.graph.pages() == sorted(self.model.pages)
            assert self.graph.edges() == self.model.listed()
            assert (len(self.graph), self.graph.edge_count) == (len(self.model.pages), len(self.model.edges))


TestGraph = GraphMachine.TestCase
TestGraph.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
