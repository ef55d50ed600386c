"""The policies that are always there: immediate, deferred, lazy."""

from __future__ import annotations

from mmsb.plugin import Engine, Policy, PropagationPolicySpec, hookimpl

MMSB_API = 1


class Immediate(Policy):
    """A wave after every commit that left something to do. The policy that all others are compared with."""

    def after_commit(self, engine: Engine) -> None:
        """Runs the wave."""
        if engine.pending:
            engine.propagate()


class Deferred(Policy):
    """No wave but those that the user asks for with `state.propagate()`; until then children are stale."""


class Lazy(Policy):
    """A wave when a stale page is about to be read."""

    def before_read(self, engine: Engine, page_id: int) -> None:
        """Brings the page up to date, and with it everything that is pending."""
        if engine.pending:
            engine.propagate()


@hookimpl
def mmsb_policies() -> list[PropagationPolicySpec]:
    """The three."""
    return [
        PropagationPolicySpec("immediate", "A wave after every commit.", Immediate),
        PropagationPolicySpec("deferred", "Waves only when they are asked for.", Deferred),
        PropagationPolicySpec("lazy", "A wave when a stale page is read.", Lazy),
    ]
