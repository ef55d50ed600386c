"""What plugins bring besides semirings and policies: devices, exporters, commands; and finding all of them."""

import os
import subprocess
import sys

import mmsb
from mmsb import Delta
from mmsb.plugin.manager import installed

from .common import BACKEND, PAGE_BYTES, covers, random_bytes, skip_unless


@covers("hook mmsb_devices")
class Device:
    params = [BACKEND, PAGE_BYTES]
    param_names = ["backend", "page_bytes"]

    def setup(self, backend, page_bytes):
        skip_unless(backend in installed().devices)
        self.device = installed().find("devices", backend).make()
        self.content, self.out = random_bytes(page_bytes), bytearray(page_bytes)
        self.buffer = self.device.allocate(page_bytes)
        self.delta = Delta.from_ranges(1, [(0, page_bytes // 2)], self.content[: page_bytes // 2])

    def time_upload(self, backend, page_bytes):
        self.device.upload(self.buffer, self.content)

    def time_download(self, backend, page_bytes):
        self.device.download(self.buffer, self.out)

    def time_apply_delta(self, backend, page_bytes):
        self.device.apply_delta(self.buffer, self.delta)


@covers("hook mmsb_exporters")
class Export:
    def setup(self):
        self.export = mmsb.export(mmsb.open(), "jsonl", os.devnull)

    def teardown(self):
        self.export.close()

    def time_send(self):
        self.export.send()


@covers("hook mmsb_commands")
class Commands:
    timeout, number, warmup_time = 120, 1, 0

    def time_help(self):
        subprocess.run([sys.executable, "-m", "mmsb", "--help"], check=True, capture_output=True)

    def time_import(self):
        subprocess.run([sys.executable, "-c", "import mmsb"], check=True)

    def time_python_alone(self):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
