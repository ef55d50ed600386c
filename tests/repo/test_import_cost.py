"""`import mmsb` brings none of its heavy dependencies. Its time is printed, never asserted: run with `pytest -s`."""

import json
import subprocess
import sys
import time

HEAVY = ["blake3", "click", "numpy", "pluggy", "rich", "textual", "zstandard"]


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def start_ms(code: str, repeats: int = 7) -> float:
    durations_ns = []
    for _ in range(repeats):
        begin_ns = time.perf_counter_ns()
        fresh(code)
        durations_ns.append(time.perf_counter_ns() - begin_ns)
    return min(durations_ns) / 1e6


def test_import_brings_no_heavy_module():
    code = f"import json, sys, mmsb; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    assert json.loads(fresh(code)) == []


def test_import_time_is_printed():
    bare_ms, import_ms = start_ms("pass"), start_ms("import mmsb")
    print(f"\nimport mmsb: {import_ms - bare_ms:.1f} ms beyond the {bare_ms:.1f} ms of a bare start (limit 40 ms)")
