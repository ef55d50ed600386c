"""The kernels that Python sees, on each CPU level."""

from mmsb._core.kernels import Kernels

from .common import DENSITY, ISA, PAGE_BYTES, changed, covers, random_bytes, skip_unknown_isa


class Level:
    """A table of kernels with one level switched off."""

    params = [PAGE_BYTES, DENSITY, ISA]
    param_names = ["page_bytes", "density", "isa"]

    def setup(self, page_bytes, density, isa):
        skip_unknown_isa(isa)
        self.kernels = Kernels(disable=isa)
        self.old = random_bytes(page_bytes)
        self.new = changed(self.old, density)
        self.delta = self.kernels.diff(self.old, self.new) or (0, b"")
        self.page = bytearray(self.old)


@covers("kernel delta_diff")
class Diff(Level):
    def time_diff(self, page_bytes, density, isa):
        self.kernels.diff(self.old, self.new)

    def track_delta_bytes(self, page_bytes, density, isa):
        return len(self.delta[1])

    track_delta_bytes.unit = "bytes"


class Encoded(Level):
    """What needs a delta."""

    params = [PAGE_BYTES, [0.01, 1.0], ISA]


@covers("kernel delta_apply")
class Apply(Encoded):
    def time_apply(self, page_bytes, density, isa):
        self.kernels.apply(self.page, *self.delta)


@covers("kernel delta_merge")
class Merge(Encoded):
    def setup(self, page_bytes, density, isa):
        super().setup(page_bytes, density, isa)
        self.later = self.kernels.diff(self.new, changed(self.new, density))

    def time_merge(self, page_bytes, density, isa):
        self.kernels.merge(self.delta, self.later, page_bytes)


@covers("kernel delta_inverse")
class Inverse(Encoded):
    def time_inverse(self, page_bytes, density, isa):
        self.kernels.inverse(self.page, *self.delta)


@covers("kernel crc32c")
class Crc:
    params = [PAGE_BYTES, ISA]
    param_names = ["page_bytes", "isa"]

    def setup(self, page_bytes, isa):
        skip_unknown_isa(isa)
        self.kernels, self.page = Kernels(disable=isa), random_bytes(page_bytes)

    def time_crc32c(self, page_bytes, isa):
        self.kernels.crc32c(self.page)
