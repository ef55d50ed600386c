"""Which pages of a state depend on which, and which of them are stale. docs/understand/propagation.md.

The log says all of it: links come and go by LINK and UNLINK changes, and a page is stale because it stands in a wave's
list of failed pages, or because an ancestor changed and no wave has covered that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmsb._core.linkcodec import encode_wave
from mmsb._core.linktable import TELLING, Table
from mmsb._core.varint import Reader, put_text, put_varint
from mmsb.errors import CorruptLogError
from mmsb.links import KINDS, Link, decode, decode_unlink, decode_wave

PLACES = {kind: place for place, kind in enumerate(KINDS)}
StoredLinks = tuple[list[tuple[int, Link]], dict[int, str], list[int]]  # links; failed, marked pages
NO_LINKS: StoredLinks = ([], {}, [])


class Links(Table):
    """All links of one state: by child and kind.

    A page is stale when it is in one of two lists. `failed`: it must be computed whatever its parents do, or cannot be,
    for a reason. `marked`: an ancestor changed; the next wave over everything covers that. Both count only while the
    page's header has the mark, too: writing a page that nobody computes takes the first away.

    `table`: the links. `linked`: pages that got a data link or a function and are not told yet, and whether what
    depends on them is stale too. `children`: pages below a page along data and control edges, `told`: along edges of
    the other kinds. `unlogged`: stale pages that opening found, and no wave has told since. `digested`: digest_bytes().
    """

    __slots__ = ()

    def items(self) -> Iterator[tuple[int, Link]]:
        """(child, link), by child, then kind."""
        for child, kind in sorted(self.table, key=lambda key: (key[0], PLACES[key[1]])):
            yield child, self.table[child, kind]

    @staticmethod
    def edges(links: Iterable[tuple[int, Link]]) -> list[tuple[int, int, str]]:
        """(parent, child, kind) of every edge of these links."""
        return [(parent, child, link.kind) for child, link in links for parent in dict.fromkeys(link.parents)]

    def touching(self, page_id: int) -> list[tuple[int, Link]]:
        """(child, link) of every link that the page is in."""
        keys = [(page_id, kind) for kind in KINDS]
        keys += [(child, kind) for child in set(self.children.get(page_id, ())) for kind in TELLING]
        keys += [(child, kind) for child in set(self.told.get(page_id, ())) for kind in KINDS if kind not in TELLING]
        found = [(child, self.table[child, kind]) for child, kind in keys if (child, kind) in self.table]
        found = [(child, link) for child, link in found if child == page_id or page_id in link.parents]
        return sorted(found, key=lambda entry: (entry[0], KINDS.index(entry[1].kind)))

    # ---- links come and go

    def remove(self, child: int, kind: str, parents: Sequence[int] = ()) -> None:
        """Takes a link out, or only these parents out of one that is no data link."""
        link = self.table.get((child, kind))
        if link is None:
            return
        self.mark_news()
        left = tuple(parent for parent in link.parents if parent not in parents) if parents and kind != "data" else ()
        self.put(child, kind, link._replace(parents=left) if left else None)
        if kind == "data" or not (self.of(child) or self.of(child, "control")):
            self.settle({}, [child])

    # ---- what is stale

    def below(self, pages: Iterable[int]) -> list[int]:
        """Pages that depend on one of `pages`, along data and control edges."""
        found: dict[int, None] = {}
        todo = list(pages)
        while todo:
            for child in self.children.get(todo.pop(), ()):
                if child not in found:
                    found[child] = None
                    todo.append(child)
        return list(found)

    def news(self) -> tuple[int, list[int]]:
        """(number of notes about changes, pages that changed or were linked and whose children are not marked yet)."""
        count, touched = self.core._touched_pages(self.core._notes_marked)
        return count, [*touched, *(page_id for page_id, marks in self.linked.items() if marks)]

    def mark_news(self) -> None:
        """What depends on what changed is stale."""
        self.core._notes_marked, pages = self.news()
        self.mark(self.below(pages))
        self.linked.clear()

    def distrust(self) -> None:
        """What exactly changed is no longer known: marked pages must be computed whatever their parents do."""
        self.mark_news()
        computed = [page_id for page_id in sorted(self.marked) if self.of(page_id) is not None]
        self.settle({page_id: self.failed.get(page_id, "") for page_id in computed}, ())
        self.core._notes_marked = 0
        self.linked.clear()
        self.core._forget_touched()
        self.unlogged.clear()
        self.unlogged.update(self.failed, self.marked)

    def untold(self, told: Iterable[int]) -> dict[int, str]:
        """What opening found stale and still is, and why, without `told`."""
        return {
            page_id: self.failed.get(page_id, "")
            for page_id in sorted(self.unlogged.difference(told))
            if (page_id in self.marked and self.core._is_stale(page_id)) or self.core._has_failed(page_id)
        }

    # ---- the log

    def describe(self, change: Any, seq: int) -> None:
        """Takes a change of the log in. CorruptLogError."""
        try:
            if change.kind == "link":
                link = decode(change.blob)
                for page_id in (change.page_id, *link.parents):
                    if not self.core._has_page(page_id):
                        raise ValueError(f"it links page {page_id}, which there is not")
                if change.page_id in link.parents:
                    raise ValueError(f"page {change.page_id} depends on itself")
                self.link(change.page_id, link)
            elif change.kind == "unlink":
                kind, parents = decode_unlink(change.blob)
                self.remove(change.page_id, kind, parents)
            else:
                if not 1 <= change.page_id <= seq:
                    raise ValueError("the cause of a wave lies outside of history")
                failed, fresh, partial = decode_wave(change.blob)
                if partial:
                    self.mark_news()
                else:
                    self.cover()
                    self.core._forget_touched()
                self.settle(failed, fresh)
        except (ValueError, IndexError) as error:
            raise corrupt(seq, str(error)) from error

    # ---- what is kept elsewhere

    def stored(self) -> StoredLinks:
        """All links and stale pages: what checkpoints keep. NO_LINKS without links."""
        if not self.table:
            return NO_LINKS
        failed = {page_id: reason for page_id, reason in self.failed.items() if self.core._has_failed(page_id)}
        return list(self.items()), failed, sorted(self.marked.union(self.below(self.news()[1])))

    def load(self, stored: StoredLinks) -> None:
        """Takes in what stored() gave."""
        links, failed, marked = stored
        for child, link in links:
            self.add(child, link)
        self.settle(failed, ())
        self.mark(marked)

    def digest_bytes(self) -> bytes:
        """What the digest covers: the links, and not how functions are called."""
        if self.digested is None:
            out = bytearray()
            for child, link in self.items():
                put_varint(out, child)
                put_text(out, link.encode(named=False))
            self.digested = bytes(out)
        return self.digested


def encode_links(stored: StoredLinks) -> bytes:
    """The bytes in which a checkpoint keeps them."""
    links, failed, marked = stored
    out = bytearray()
    put_varint(out, len(links))
    for child, link in links:
        put_varint(out, child)
        put_text(out, link.encode())
    return bytes(out) + encode_wave(failed, marked, False)


def decode_links(data: bytes) -> StoredLinks:
    """What encode_links() gave. ValueError."""
    reader = Reader(data)
    links = [(reader.number(), decode(reader.text())) for _ in range(reader.number())]
    if not links and reader.left:
        raise ValueError("there is more than links")
    failed, marked, _ = decode_wave(reader.take(reader.left))
    return links, failed, marked


def corrupt(seq: int, reason: str) -> CorruptLogError:
    """The error of a log whose links make no sense."""
    return CorruptLogError(
        f"Commit {seq} describes the graph wrongly ({reason}). Run `mmsb verify` on the store.",
        path=None,
        offset=None,
        seq=seq,
        reason=reason,
    )
