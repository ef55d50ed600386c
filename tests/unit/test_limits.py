"""At every limit and beyond it, as measure R20 of the reliability programme does; and times that are no numbers."""

import pytest

import mmsb
from tests.rel.limits import LIMITS
from tests.rel.r20_limits import trial


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.what)
def test_limit(limit):
    for n in limit.tries():
        assert trial(limit, n) == "", n


def test_a_timeout_is_a_number():
    """With nan nothing is ever over."""
    with mmsb.open(name="nan") as state:
        state.serve()
        with mmsb.attach("nan") as view:
            for wait in (lambda nan: view.wait(9, nan), lambda nan: view.follow(timeout=nan)):
                with pytest.raises(ValueError, match="nan"):
                    wait(float("nan"))
