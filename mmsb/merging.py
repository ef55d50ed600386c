"""Merge pages: pages to which every write is page ⊕ operand. docs/understand/merge-pages.md.

Mixed into State. A merge page is a page of that kind whose metadata name its semiring, under `RULE`; so whatever keeps
kind and metadata (log, checkpoints, digests, forks) keeps it a merge page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmsb import metadata
from mmsb._core.semiring import Semiring, builtin, lane_type
from mmsb._core.semiring_python import compiled
from mmsb._core.state import Core
from mmsb.errors import MergePageError, MetadataError, SemiringError, UnknownSemiringError

RULE = "mmsb.merge"


class Merging(Core):
    """The part of State that finds semirings, and knows which pages merge by which."""

    _semirings: dict[tuple[str, str], Semiring]
    _own_semirings: tuple[Semiring, ...]

    def _semiring(self, name: str, dtype: Any) -> Semiring:
        """A semiring: one that open() was given, or built in, or of a plugin. Plugins are loaded for other names only.

        UnknownSemiringError, SemiringError, PluginError.
        """
        key = name, lane_type(dtype)
        found = self._semirings.get(key)
        if found is not None:
            return found
        try:
            found = builtin.get(*key)
        except UnknownSemiringError:
            if any(name == other for other, _ in builtin.names()):
                raise
            found = _of_a_plugin(*key)
        self._semirings[key] = found
        return found

    def _merge_rule(self, page_id: int) -> tuple[str, str] | None:
        """(name, dtype) of a merge page's semiring, None for any other page. MergePageError when none is named."""
        if not self._merges(page_id):
            return None
        rule = metadata.frozen(self._metadata.get(page_id)).get(RULE)
        name, _, dtype = rule.partition(" ") if isinstance(rule, str) else ("", "", "")
        if not name or not dtype:
            raise MergePageError(
                f"Page {page_id} merges, and its metadata do not say how. Make a new page and assign its bytes.",
                page_id=page_id,
                reason="its metadata name no semiring",
            )
        return name, dtype

    def _learn_merge(self, page_id: int) -> None:
        """Before the first write to a merge page. MergePageError, PluginError when its semiring is not there."""
        rule = self._merge_rule(page_id)
        if rule is not None:
            self._set_merge(page_id, self._semiring(*rule))

    def _merge_semiring(self, merge: str | None, dtype: Any) -> Semiring | None:
        """The semiring of a page that is to be created. TypeError, and the errors of _semiring()."""
        if (merge is None) != (dtype is None):
            raise TypeError("a merge page needs both merge= and dtype=, like merge='max-plus', dtype='float64'")
        return None if merge is None else self._semiring(merge, dtype)

    def _merge_metadata(self, value: Mapping[str, Any] | None, semiring: Semiring | None) -> Mapping[str, Any] | None:
        """Metadata as they are stored: with the rule of a merge page, which nobody changes. MetadataError."""
        rule = None if semiring is None else f"{semiring.name} {semiring.dtype}"
        if rule is None and not (value and RULE in value):
            return value
        entries = {RULE: rule, **(value or {})}
        if entries[RULE] != rule:
            raise MetadataError(
                f"{RULE!r} says how a page merges and stays as it is. Leave it out; use create_page(merge=).", key=RULE
            )
        return entries


def own_semirings(given: Iterable[Any]) -> tuple[Semiring, ...]:
    """The semirings that a State is opened with. SemiringError for what is none, or has the name of one that is built
    in or given before; TypeError.
    """
    found: dict[tuple[str, str], Semiring] = {}
    if not isinstance(given, Iterable):
        raise TypeError(f"semirings= takes a list of semirings, not {given!r}")
    for one in given:
        if isinstance(one, str) or not all(hasattr(one, fact) for fact in ("name", "dtype", "laws", "domain")):
            raise TypeError(f"semirings= takes semirings (mmsb.UfuncSemiring, mmsb.Semiring), not {one!r}")
        made = compiled(one)
        key = made.name, made.dtype
        if key in found or any(made.name == name for name, _ in builtin.names()):
            raise SemiringError(
                f"There is a semiring {made.name!r} over {made.dtype} already. Give yours another name.",
                semiring=made.name,
                dtype=made.dtype,
            )
        found[key] = made
    return tuple(found.values())


def _of_a_plugin(name: str, dtype: str) -> Semiring:
    """A semiring that an installed plugin offers. PluginError."""
    from mmsb.plugin.manager import installed

    spec = installed().find("semirings", name)
    made = compiled(spec.make(dtype))
    if (made.name, made.dtype) != (name, dtype):
        raise spec.broken(f"it made {made.name!r} over {made.dtype}")
    return made
