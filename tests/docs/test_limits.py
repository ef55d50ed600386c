"""docs/reference/limits.md holds the limits that the code has.

After a change of one: `python tests/docs/test_limits.py` writes the table into the page again.
"""

import re
from pathlib import Path

from tests.rel.limits import table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "limits.md"
TABLE = re.compile(r"<!-- table -->\n(.*?)<!-- end -->\n", re.DOTALL)


def test_the_table_is_that_of_the_code():
    assert TABLE.search(PAGE.read_text())[1] == table()


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: f"<!-- table -->\n{table()}<!-- end -->\n", PAGE.read_text()))
