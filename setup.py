"""What pyproject.toml cannot say: the C library, the extension list and the one list of compiler flags.

Every csrc/*.c is compiled once into a static library that each mmsb/_core/*.pyx links. Objects are kept under
build/objects and rebuilt when their source, a header they include or their command line changes, so that

    python setup.py build_ext --inplace -j2

is the whole development loop.
"""

import fcntl
import os
import shlex
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# The one flag list. No -march: the baseline runs on any x86-64, files raise the level inside (csrc/base.h).
# -ffp-contract=off keeps floats the same on every CPU. -fno-strict-aliasing: pages are bytes with many readers.
C_FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-fno-strict-aliasing", "-Wall", "-Wextra"]
# Generated code is not ours to tidy; only warnings differ from C_FLAGS.
CYTHON_FLAGS = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]
CYTHON_FLAGS += ["-Wno-sign-compare", "-Wno-unused-function"]
# The environment comes last, so that CFLAGS="-O1 -fsanitize=address" wins. (LDFLAGS is read by setuptools.)
ENVIRONMENT_FLAGS = shlex.split(os.environ.get("CFLAGS", ""))

DIRECTIVES = {
    "language_level": 3,
    "binding": False,  # a bound function would not check what Page.read(x) gets for self, and read past its end
    "boundscheck": False,
    "wraparound": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",  # inspect.signature() reads it
    "auto_pickle": False,  # loading runs no code, and makes no object out of unchecked numbers
}

OBJECTS = f"build/objects/{sysconfig.get_config_var('SOABI')}"
ARCHIVE = f"{OBJECTS}/libmmsb.a"


def paths(pattern: str) -> list[str]:
    """Matching files as sorted relative paths."""
    return sorted(str(path) for path in Path().glob(pattern))


def is_fresh(target: Path, command: str) -> bool:
    """Whether an object is newer than all that its dependency file names and came from the same command line."""
    stamp, dependencies = target.with_suffix(".cmd"), target.with_suffix(".d")
    if not (target.exists() and stamp.exists() and dependencies.exists()) or stamp.read_text() != command:
        return False
    _, _, names = dependencies.read_text().replace("\\\n", " ").partition(": ")
    built_ns = target.stat().st_mtime_ns
    return all(os.path.exists(name) and os.stat(name).st_mtime_ns < built_ns for name in names.split())


class BuildExt(build_ext):
    """Builds the C library first, and compiles only what is out of date."""

    def finalize_options(self) -> None:
        """Keeps objects in one place whatever front end asks for the build, and uses every core."""
        super().finalize_options()
        self.build_temp = OBJECTS
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        """Library, then Cython, then the extensions; one build at a time in one tree."""
        os.makedirs(OBJECTS, exist_ok=True)
        with open(f"{OBJECTS}/lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.compile_only_what_changed()
            self.build_c_library()
            # Cython looks at what changed in the sources, not at how they are to be translated.
            directives = Path("build/cython/directives")
            same = directives.exists() and directives.read_text() == repr(DIRECTIVES)
            generated = cythonize(
                self.extensions,
                build_dir="build/cython",
                compiler_directives=DIRECTIVES,
                force=self.force or not same,
                quiet=True,
            )
            directives.write_text(repr(DIRECTIVES))
            for extension, translated in zip(self.extensions, generated, strict=True):
                extension.sources = translated.sources
            super().build_extensions()

    def compile_only_what_changed(self) -> None:
        """Puts a freshness check in front of the compiler's one-file step."""
        compile_one = self.compiler._compile

        def compile_if_stale(obj, src, ext, cc_args, extra_postargs, pp_opts):
            extra_postargs = [*extra_postargs, "-MMD"]
            target = Path(obj)
            command = shlex.join([*self.compiler.compiler_so, *cc_args, src, *extra_postargs, *pp_opts])
            command = command.replace(sys.prefix, "PREFIX")  # two virtual environments share their objects
            if self.force or not is_fresh(target, command):
                compile_one(obj, src, ext, cc_args, extra_postargs, pp_opts)
                target.with_suffix(".cmd").write_text(command)

        self.compiler._compile = compile_if_stale

    def build_c_library(self) -> None:
        """Compiles csrc and archives it when an object is newer than the archive."""

        def compile_one(source: str) -> list[str]:
            return self.compiler.compile([source], output_dir=OBJECTS, extra_postargs=C_FLAGS + ENVIRONMENT_FLAGS)

        with ThreadPoolExecutor(self.parallel) as pool:
            objects = [name for names in pool.map(compile_one, paths("csrc/*.c")) for name in names]
        members, archive = Path(OBJECTS, "members"), Path(ARCHIVE)
        listing = "\n".join(objects)
        if (
            archive.exists()
            and members.exists()
            and members.read_text() == listing
            and all(os.stat(name).st_mtime_ns < archive.stat().st_mtime_ns for name in objects)
        ):
            return
        archive.unlink(missing_ok=True)
        self.compiler.create_static_lib(objects, "mmsb", output_dir=OBJECTS)
        members.write_text(listing)


class BuildPy(build_py):
    """Ships the C headers inside the package, for compiled plugins."""

    def run(self) -> None:
        """Copies csrc/*.h to mmsb/include of what is being built (not of an editable tree)."""
        super().run()
        if not self.editable_mode:
            include = os.path.join(self.build_lib, "mmsb", "include")
            self.mkpath(include)
            for header in paths("csrc/*.h"):
                self.copy_file(header, include)


setup(
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
    ext_modules=[
        Extension(
            f"mmsb._core.{Path(source).stem}",
            [source],
            include_dirs=["csrc"],
            extra_objects=[ARCHIVE],
            extra_compile_args=C_FLAGS + CYTHON_FLAGS + ENVIRONMENT_FLAGS,
            depends=[*paths("csrc/*.[ch]"), *paths("mmsb/_core/*.pxd"), "setup.py", ARCHIVE],
        )
        for source in paths("mmsb/_core/*.pyx")
    ],
)
