"""The checker of imports and includes, which ci/lint runs on the tree, can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "ci/check_floors.py", root], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("csrc/cpu.h", '#include "kernels.h"\n', "c1 cpu includes kernels.h of c2 kernels"),
        ("csrc/stranger.c", "\n", "add 'stranger' to a [[c.floor]]"),
        ("csrc/frame.h", '#include "segment.h"\n', "circle: frame -> segment -> frame"),
        ("mmsb/digest.py", "from mmsb import state\n", "against the order"),
        ("mmsb/horizon.py", "from .log import Log\n", "against the order"),
        ("mmsb/log.py", "def f():\n    import mmsb.cli\n", "against the order"),
        ("mmsb/stranger.py", "\n", "add 'stranger' to a [[python.floor]]"),
        ("mmsb/state.py", "import mmsb_gymnasium\n", "the core imports no plugin"),
        ("mmsb/state.py", "import pickle\n", "loading a store runs no code"),
        ("mmsb/state.py", "import pluggy\n", "behind the manager"),
        ("mmsb/state.py", "import os\nX = os.environ['X']\n", "one reader of the environment"),
        ("mmsb/_core/log.pyx", "from mmsb.state cimport x\n", "against the order"),
        ("mmsb/_core/log.pyx", 'cdef extern from "segment.h":\n    pass\n', "extern declarations belong"),
        ("plugins/mmsb-x/src/mmsb_x/plugin.py", "import mmsb._core.log\n", "a plugin imports mmsb._core"),
        ("plugins/mmsb-x/src/mmsb_x/plugin.py", "import mmsb_y\n", "plugins never import each other"),
    ],
)
def test_the_checker_finds(tmp_path: Path, name: str, text: str, complaint: str):
    house = {
        "csrc/segment.h": '#include "frame.h"\n',
        "mmsb/__init__.py": "from .state import State\n",
        "mmsb/state.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mmsb.cli\n",
        "mmsb/cli.py": "import mmsb\n",
        "mmsb/log.py": "from .segments import Segment\n",
        "mmsb/segments.py": "from ._core import delta\n",
        "mmsb/_core/delta.pyx": "from mmsb.errors import X\n",
        "plugins/mmsb-x/src/mmsb_x/plugin.py": "import mmsb\nfrom . import helper\n",
    }
    for path, content in house.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    (tmp_path / "ci").mkdir()
    shutil.copy(ROOT / "ci/floors.toml", tmp_path / "ci/floors.toml")
    before = run(tmp_path)
    assert before.returncode == 0, before.stdout
    (tmp_path / name).write_text(text)
    result = run(tmp_path)
    assert result.returncode == 1
    assert complaint in result.stdout, result.stdout
