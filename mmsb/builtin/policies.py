"""The policies that are always there: immediate, deferred, lazy, parallel."""

from __future__ import annotations

import os

from mmsb.plugin import Engine, Policy, PropagationPolicySpec, hookimpl

MMSB_API = 1


class Immediate(Policy):
    """A wave after every commit that left something to do. The policy that all others are compared with.

    A State that is given the name has the same built in, and faster.
    """

    def after_commit(self, engine: Engine) -> None:
        """Runs the wave."""
        engine.propagate()


class Deferred(Policy):
    """No wave but those that the user asks for with `state.propagate()`; until then children are stale."""


class Lazy(Policy):
    """A stale page that is about to be read is computed, with the stale pages that it depends on, and nothing else."""

    def before_read(self, engine: Engine, page_id: int) -> None:
        """Brings the page up to date."""
        engine.compute(page_id)


class Parallel(Immediate):
    """As immediate, but where a level of the graph has enough to do, several threads compute its native links.

    `threads`: how many, the own one not counted (default: one per CPU that the process may use). `least_bytes`: what a
    level must read to be worth them. The bytes and the log are those of immediate.
    """

    def __init__(self, threads: int | None = None, least_bytes: int = 1 << 20) -> None:
        self.threads = threads if threads is not None else len(os.sched_getaffinity(0))
        self.least_bytes = least_bytes


@hookimpl
def mmsb_policies() -> list[PropagationPolicySpec]:
    """The four."""
    return [
        PropagationPolicySpec("immediate", "A wave after every commit.", Immediate),
        PropagationPolicySpec("deferred", "Waves only when they are asked for.", Deferred),
        PropagationPolicySpec("lazy", "A stale page is computed when it is read.", Lazy),
        PropagationPolicySpec("parallel", "A wave after every commit, wide levels by several threads.", Parallel),
    ]
