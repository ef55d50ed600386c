"""The one thing that pyproject.toml cannot say: where mmsb's headers are."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import mmsb

# Floats must come out the same on every machine, so nothing may be contracted; this semiring has none, yours may.
FLAGS = ["-O3", "-ffp-contract=off"]
GCD = Extension(
    "mmsb_semiring_example.gcd",
    ["src/mmsb_semiring_example/gcd.pyx"],
    include_dirs=[mmsb.get_include()],
    extra_compile_args=FLAGS,
)
setup(ext_modules=cythonize([GCD], build_dir="build", language_level=3))
