"""When the waves of a State run: at once, at the end of a block, when somebody asks, or as a policy decides.

Mixed into State. docs/understand/policies.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmsb._core.engine import Engine
from mmsb.errors import StalePageError
from mmsb.listening import Listening

# How many bytes a level must read before a policy with `threads` spreads it, unless the policy says otherwise.
LEAST_BYTES = 1 << 20
THREADS_MOST = 1024


def policy_of(policy: Any) -> Any:
    """The policy of a name, or a policy itself; None for "immediate". PluginError, TypeError."""
    if policy is None or policy == "immediate":
        return None
    if isinstance(policy, str):
        from mmsb.plugin.manager import installed

        return installed().find("policies", policy).make()
    threads, least = getattr(policy, "threads", 1), getattr(policy, "least_bytes", LEAST_BYTES)
    if (
        type(threads) is not int
        or not 1 <= threads <= THREADS_MOST
        or type(least) is not int
        or not 0 <= least < 1 << 63
    ):
        raise TypeError(f"a policy has 1 to {THREADS_MOST} threads and a number of bytes; this has {threads}, {least}")
    missing = [name for name in ("after_commit", "before_read", "close") if not callable(getattr(policy, name, None))]
    if missing:
        raise TypeError(f"a policy is a name or has after_commit, before_read and close; this has no {missing[0]}")
    return policy


class Policies(Listening):
    """The part of State that says when pages are computed."""

    _policy: Any = None

    def _need_engine(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(self)
            self._use_policy(self._engine)
        return self._engine

    def _use_policy(self, engine: Engine) -> None:
        engine.policy = self._policy
        engine.use_threads(getattr(self._policy, "threads", 1), getattr(self._policy, "least_bytes", LEAST_BYTES))

    def _renewed(self, engine: Engine) -> None:
        """A page was given another function: it is computed when the policy says so."""
        if engine.policy is None and not engine.deferrals:
            engine.wave_now()
        else:
            engine.decide()
        self._tell()

    def propagate(self) -> int:
        """Computes everything that is not up to date, in one wave; also what failed before. Returns how many pages
        were computed.
        """
        self._check_idle()
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
        self._check_idle(to_write=True)
        engine = self._need_engine()
        engine.defer()
        try:
            yield
        finally:
            engine.resume()
            if not self.closed:
                self._tell()

    @contextmanager
    def _without_wave(self) -> Iterator[None]:
        """No wave follows what this thread commits inside; what depends on it is stale."""
        with self._exclusive():
            engine = self._need_engine()
            engine.defer()
            try:
                yield
            finally:
                engine.resume(wave=False)
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
        self._check_idle()
        following, engine = policy_of(policy), self._need_engine()
        self._close_policy()
        if not self.read_only and (engine.pending or self._links.failed):
            engine.propagate()
        self._policy = following
        self._use_policy(engine)
        self._tell()

    def _close_policy(self) -> None:
        """The policy is not asked any more; it may run what is pending."""
        engine = self._engine
        if engine is not None and engine.policy is not None and not self.read_only and not self.poisoned:
            with self._exclusive():
                # Whatever it raises, it is not asked again.
                leaving, engine.policy, self._policy = engine.policy, None, None
                leaving.close(engine)
        if engine is not None:
            engine.use_threads(1, 0)

    def _read_stale(self, page_id: int) -> None:
        engine = self._engine
        if engine is not None:
            readable = engine.before_read(page_id)
            self._tell()
            if readable:
                return
        reason = self._links.failed.get(page_id) or "a page that it depends on changed since"
        raise StalePageError(
            f"Page {page_id} is not up to date: {reason}. Call state.propagate(), or set state.stale_reads to read it "
            "as it is.",
            page_id=page_id,
            reason=reason,
        ) from self._failures.get(page_id)
