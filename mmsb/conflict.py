"""What happened to a page since an epoch, and whether a change made from there still fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsb.bases import while_kept
from mmsb.errors import ConflictError, RetentionError

if TYPE_CHECKING:
    from mmsb.state import State


@while_kept
def check_rebase(state: State, page_id: int, epoch: int, ranges: list[tuple[int, int]], rebase: bool) -> None:
    """Returns when a change of byte `ranges` [(offset, length)], made at `epoch`, may be committed now.

    Raises ConflictError, which names the overlapping byte ranges and the deltas that made them, when a later delta
    overlaps, when the page was resized since, or when `rebase` is false.
    """
    now = state._page_info(page_id)[1]
    later = [delta for delta in state._page_history(page_id, since_epoch=epoch) if (delta.epoch or 0) > epoch]
    overlaps: list[tuple[int, int]] = []
    guilty = []
    for delta in later:
        met = [
            (max(start, offset), min(start + length, offset + count))
            for start, length in ranges
            for offset, count in delta.ranges()
            if max(start, offset) < min(start + length, offset + count)
        ]
        if met:
            overlaps.extend(met)
            guilty.append(delta)
    resized = epoch > now or len(later) != now - epoch
    if rebase and not overlaps and not resized:
        return
    lost = resized and 0 <= epoch <= now and not _is_kept(state, page_id, epoch)
    reason = (
        "is not that far"
        if epoch > now
        else "was changed in commits that are no longer kept"
        if lost
        else "was resized since"
        if resized
        else "moved on"
        if not overlaps
        else "was changed in the same bytes"
    )
    raise ConflictError(
        f"Page {page_id} {reason}: expected epoch {epoch}, it is at {now}. "
        "Read the page again and decide anew" + ("." if rebase or overlaps or lost else ", or pass rebase=True."),
        page_id=page_id,
        expected_epoch=epoch,
        epoch=now,
        overlaps=sorted(set(overlaps)),
        deltas=guilty or later,
    )


def _is_kept(state: State, page_id: int, epoch: int) -> bool:
    """Whether the page as it was at an epoch that it has had can be rebuilt."""
    try:
        state._page_at_epoch(page_id, epoch)
    except RetentionError:
        return False
    return True
