"""A few operations of measure R21 (tests/rel/r21_memory.py): those in which something was wrong once, and a plain one."""

import pytest

from tests.rel.programme import Run
from tests.rel.r21_memory import starve


@pytest.mark.parametrize(
    "name",
    [
        "open",  # was a TypeError: Python's own errors have no attributes to be given
        "depend",  # left a page without its rule, stale for good, when the commit was made and the rule was not
        "write",
    ],
)
def test_every_refused_request_is_a_clean_error(tmp_path, name):
    run = Run("quick", 1, tmp_path)
    starve(run, name)
    assert (run.tally.broken, run.tally.failures) == (0, [])
    assert run.tally.injected > 0 or run.tally.skipped
