"""Random programs of every kind of change, with what the State looked like after each commit."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from mmsb.errors import MMSBError
from mmsb.testing.model import picture_of

Picture = dict[int, tuple[bytes, int, str | None, dict[str, Any]]]


@dataclass
class History:
    """`pictures[seq]` and `digests[seq]` are those of the live State after commit `seq`; `labels[seq]` its label."""

    state: Any
    pictures: list[Picture] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)

    def note(self) -> None:
        """Remembers the State as it is now."""
        self.pictures.append(picture_of(self.state))
        self.digests.append(self.state.digest())


def change_something(batch: Any, live: list[int], sizes: dict[int, int], rng: random.Random) -> None:
    """One random operation of a batch. `live`, `sizes`: the pages there are, kept up to date."""
    choice = rng.randrange(12)
    if choice == 0 or not live:
        size = rng.choice([1, 10, 64, 300, 5000])
        page = batch.create_page(size, name=f"name {rng.randrange(20)}", metadata={"n": size}, data=rng.randbytes(1))
        live.append(page.page_id)
        sizes[page.page_id] = size
    elif choice == 1:
        ids = batch.create_pages(3, 20)
        live.extend(ids)
        sizes.update(dict.fromkeys(ids, 20))
    elif choice == 2 and len(live) > 3:
        page_id = rng.choice(live)
        batch.delete_page(page_id)
        live.remove(page_id)
    elif choice == 3:
        page_id = rng.choice(live)
        size = rng.randrange(1, 200)
        batch.resize(page_id, size)
        sizes[page_id] = size
    elif choice == 4:
        batch.rename(rng.choice(live), rng.choice([None, f"name {rng.randrange(20)}"]))
    elif choice == 5:
        batch.set_metadata(rng.choice(live), rng.choice([{}, {"z": rng.randrange(9)}]))
    else:
        page_id = rng.choice(live)
        at = rng.choice([0, rng.randrange(sizes[page_id])])
        length = rng.choice([sizes[page_id] - at, rng.randrange(1, sizes[page_id] - at + 1)])
        batch.write(page_id, rng.randbytes(length), at=at)


def random_history(state: Any, rng: random.Random, commits: int) -> History:
    """Runs `commits` random batches on a fresh State and remembers every moment."""
    history = History(state)
    history.note()
    for _ in range(commits):
        live = [page.page_id for page in state.pages()]
        sizes = {page.page_id: page.size for page in state.pages()}
        label = rng.choice([None, None, f"label {rng.randrange(10)}"])
        intent = rng.choice([None, None, {"step": state.seq}])
        with state.batch(source=rng.choice([None, "a", "b"]), label=label, intent=intent) as batch:
            for _ in range(rng.randrange(5)):
                try:
                    change_something(batch, live, sizes, rng)
                except MMSBError:
                    continue  # a name that is taken: the operation is left out
        if label is not None:
            history.labels[state.seq] = label
        history.note()
    return history
