"""Command rings under fire: tests/c/checkring.c. tests/models has their protocol in every interleaving."""

from pathlib import Path

import pytest

from tests.csrc import compiler_line, library, run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_thousand_clients_killed_in_the_middle(tmp_path):
    """400 rounds of checkring, of which tests/unit/test_c_programs.py runs a few: five kills each, beside the rest."""
    run(
        [*compiler_line(False), ROOT / "tests/c/checkring.c", library(tmp_path, False), "-lpthread", "-o", "ring"],
        tmp_path,
    )
    run(["./ring", 400], tmp_path)
