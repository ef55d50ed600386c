"""What tests of several processes share, besides the fixtures of conftest.py."""

import os
import time


def until(condition, seconds=20.0):
    """Returns once the condition is true; AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def fds():
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))
