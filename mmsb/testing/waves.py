"""Propagation, literally: pages depend on pages, a wave is a for-loop, and staleness is a set that is worked out anew.

The engine is compared with it. Nothing is sparse, and nothing is skipped but what the contract says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mmsb.testing.model import Model

Compute = Callable[[list[int], list[list[int]]], list[int]]  # (the child's bytes, the parents' bytes) to the child's


class Failure(Exception):
    """What a function of a test raises; the page cannot be computed."""


class Rule(NamedTuple):
    """How a page is computed. `is_function`: it must be registered again after reopening."""

    parents: tuple[int, ...]
    compute: Compute
    is_function: bool = False


class WaveModel(Model):
    """A Model with a graph. `data`: rules by child; `control`: parents by child.

    Stale pages are in `todo` (to be computed whatever their parents do: new, failed, not registered) or in `marked` (an
    ancestor changed). `dirty`: parents that changed since the last wave; `waves`: by seq, what the wave changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[int, Rule] = {}
        self.control: dict[int, set[int]] = {}
        self.todo: set[int] = set()
        self.new: set[int] = set()  # of `todo`: linked, and no wave since
        self.failed: set[int] = set()  # of `todo`: tried in vain
        self.unlogged: set[int] = set()  # of `marked`: controlled pages that reopening found stale
        self.noted = 0  # the newest commit that changed a page with children, since the last wave over everything
        self.causes: dict[int, int] = {}  # of waves
        self.dirty: set[int] = set()
        self.unmarked: set[int] = set()  # changed or linked pages; what depends on them is not marked yet
        self.marked: set[int] = set()
        self.waves: dict[int, list[int]] = {}
        self.edges_at: list[list[tuple[int, int, str]]] = [[]]
        self.calls: list[int] = []  # pages whose function was called, since somebody emptied it
        self.inputs: dict[int, list[int]] = {}  # the parents' epochs when a function was called last

    # ---- the graph

    def edges(self) -> list[tuple[int, int, str]]:
        """(parent, child, kind), sorted as the graph sorts them."""
        found = {(parent, child, "data") for child, rule in self.data.items() for parent in rule.parents}
        found |= {(parent, child, "control") for child, parents in self.control.items() for parent in parents}
        return sorted(found, key=lambda edge: (edge[0], edge[1], edge[2] == "control"))

    def children(self, page_id: int) -> set[int]:
        """Along an edge of any kind."""
        return {child for parent, child, _ in self.edges() if parent == page_id}

    def below(self, pages: set[int]) -> set[int]:
        """All that depends on one of these."""
        found: set[int] = set()
        todo = list(pages)
        while todo:
            for child in self.children(todo.pop()) - found:
                found.add(child)
                todo.append(child)
        return found

    def above(self, page_id: int) -> set[int]:
        """All that a page is computed from."""
        parents = set(self.data[page_id].parents) if page_id in self.data else set()
        return parents.union(*(self.above(parent) for parent in parents))

    def order(self) -> list[int]:
        """Pages with edges by level, then id."""
        edges = self.edges()
        level: dict[int, int] = {}
        pages = {page for edge in edges for page in edge[:2]}
        while len(level) < len(pages):
            for page in pages - level.keys():
                parents = [parent for parent, child, _ in edges if child == page]
                if all(parent in level for parent in parents):
                    level[page] = 1 + max((level[parent] for parent in parents), default=-1)
        return sorted(pages, key=lambda page: (level[page], page))

    # ---- commits

    def commit(self, label: str | None = None) -> int:
        """Ends a commit, and remembers the graph too."""
        self.edges_at.append(self.edges())
        return super().commit(label)

    def touch(self, page_id: int) -> None:
        """Call it for every page that a commit changes. One that nobody computes is up to date then."""
        if self.children(page_id):
            self.noted = self.seq + 1
            self.dirty.add(page_id)
            self.unmarked.add(page_id)
        if page_id not in self.data:
            self.todo.discard(page_id)

    def link(self, child: int, rule: Rule) -> None:
        """The page is computed from now on. Does not commit."""
        self.forget_lonely(rule.parents)
        self.data[child] = rule
        self.inputs.pop(child, None)
        self.failed.discard(child)
        for pages in (self.todo, self.new, self.unmarked):
            pages.add(child)

    def register(self, child: int, compute: Compute) -> None:
        """Its function is another one. What depends on it is not stale for that: there was no commit."""
        self.data[child] = self.data[child]._replace(compute=compute)
        self.inputs.pop(child, None)
        self.failed.discard(child)
        for pages in (self.todo, self.new):
            pages.add(child)

    def unlink(self, child: int) -> None:
        """It no longer is. Does not commit."""
        self.mark()
        parents = self.data.pop(child).parents
        self.inputs.pop(child, None)
        for pages in (self.todo, self.new, self.failed, self.unmarked, self.marked):
            pages.discard(child)
        self.forget_lonely(parents)

    def add_control(self, child: int, parent: int) -> None:
        """A control edge. Does not commit."""
        self.mark()
        self.forget_lonely([parent])
        self.control.setdefault(child, set()).add(parent)

    def remove_control(self, child: int, parents: set[int]) -> None:
        """These control edges go. A page without any link is up to date. Does not commit."""
        self.control[child] = self.control[child] - parents
        if not self.control[child]:
            del self.control[child]
            if child not in self.data:
                self.todo.discard(child)
                self.marked.discard(child)
        self.forget_lonely(parents)

    def forget_lonely(self, pages: Iterable[int]) -> None:
        """What happened to a page while nobody depended on it concerns nobody."""
        for page in pages:
            if not self.children(page):
                self.dirty.discard(page)
                self.unmarked.discard(page)

    @property
    def pending(self) -> bool:
        """Whether something waits for a wave."""
        return bool(self.dirty or self.new or self.marked)

    @property
    def stale(self) -> set[int]:
        """Pages that are not up to date."""
        return self.todo | self.marked

    def mark(self) -> None:
        """What depends on changed pages is stale until a wave."""
        self.marked |= self.below(self.unmarked & self.pages.keys())
        self.unmarked.clear()

    # ---- waves

    def wave(self, forced: set[int], *, partial: bool = False) -> None:
        """One wave over what changed and `forced`; a partial one over `forced` alone."""
        visit = set(forced)
        cause = self.noted if self.noted and (partial or not forced) else self.seq
        for page in () if partial else self.dirty & self.pages.keys():
            visit |= self.children(page)
        looked: set[int] = set()
        failed: set[int] = set()
        moved: list[int] = []
        for page in self.order():
            if page not in visit:
                continue
            looked.add(page)
            done = not self.blocked(page, failed | (self.todo - looked)) and self.compute(page, moved)
            if not done:
                failed.add(page)
            if not partial and (not done or page in self.todo or page in moved):
                visit |= self.children(page)
        self.todo = (self.todo - looked) | failed
        self.failed = (self.failed - looked) | failed
        self.new = self.new & self.todo if partial else set()
        self.unmarked.clear()
        untold = self.unlogged & self.marked - looked
        covers = bool(self.marked) and not partial
        if partial:
            self.marked |= self.below(set(moved))
            self.marked -= looked
            self.dirty |= {page for page in moved if self.children(page)}
            if any(self.children(page) for page in moved):
                self.noted = self.seq + 1
        else:
            self.marked.clear()
            self.dirty.clear()
            self.noted = 0
        if looked or partial or covers:
            self.todo |= untold
            self.unlogged.clear()
            self.marked -= untold
            seq = self.commit()
            self.waves[seq], self.causes[seq] = moved, cause

    def blocked(self, page: int, missing: set[int]) -> bool:
        """Whether a page has no rule, or one of its parents is missing."""
        return page not in self.data or not missing.isdisjoint(self.data[page].parents)

    def compute(self, page: int, moved: list[int]) -> bool:
        """Computes one page; False when its function raised."""
        rule = self.data[page]
        epochs = [self.pages[parent].epoch for parent in rule.parents]
        if rule.is_function:
            if self.inputs.pop(page, None) == epochs:
                self.inputs[page] = epochs
                return True
            if rule.compute is not unregistered:
                self.calls.append(page)
        try:
            new = rule.compute(list(self.pages[page].data), [list(self.pages[parent].data) for parent in rule.parents])
        except Failure:
            return False
        self.inputs[page] = epochs
        if self.write(page, 0, bytes(new)):
            moved.append(page)
        return True

    def propagate(self) -> None:
        """A wave over everything, also what failed."""
        self.wave(self.todo & self.data.keys())

    def catch_up(self) -> None:
        """The wave at the end of a block without waves: over what came meanwhile, not what was tried in vain before."""
        self.wave((self.todo - self.failed | self.new) & self.data.keys())

    def compute_one(self, page_id: int) -> None:
        """A partial wave over a page and the stale ones that it is computed from, unless it was tried in vain."""
        if page_id in self.failed - self.marked:
            return
        wanted = {page_id} | self.above(page_id)
        self.wave(wanted & self.stale & self.data.keys(), partial=True)

    def reopen(self) -> None:
        """After opening: nobody knows any more what exactly changed, and functions are not registered."""
        self.mark()
        self.dirty.clear()
        self.noted = 0
        self.inputs.clear()
        functions = {page for page, rule in self.data.items() if rule.is_function}
        self.failed |= functions
        self.todo |= (self.marked & self.data.keys()) | functions
        self.marked -= self.data.keys()  # those are computed anyway
        self.unlogged = set(self.marked)
        self.new.clear()
        self.data = {
            page: rule._replace(compute=unregistered) if rule.is_function else rule for page, rule in self.data.items()
        }


def unregistered(old: list[int], parents: list[list[int]]) -> list[int]:
    """A function that nobody has registered."""
    raise Failure
