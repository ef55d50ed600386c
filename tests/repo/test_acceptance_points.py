"""Every point of the acceptance list that is in force has a test of its number, and no test has another."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
# The points of the pages, the log, time travel, the graph and propagation. The others join with what they are about.
POINTS = {*range(1, 33), 36, 37, 38}


def test_every_acceptance_point_has_its_test():
    named = re.compile(r"^def test_acceptance_(\d\d)_\w+", re.MULTILINE)
    found = {int(number) for path in TESTS.rglob("test_*.py") for number in named.findall(path.read_text())}
    assert found == POINTS
