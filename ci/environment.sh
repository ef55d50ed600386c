# Sourced by the scripts of ci/: goes to the root and puts a project-local virtual environment first on PATH.
# The environment is made anew only when a pyproject.toml or the interpreter has changed; the build always runs.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null
export PIP_DISABLE_PIP_VERSION_CHECK=1
VENV="$PWD/.venv"
PYTHON="${PYTHON:-python3}"

mmsb_environment() {
    local wanted packages=() folder
    wanted="$("$PYTHON" -V; echo "$PWD"; cat pyproject.toml plugins/*/pyproject.toml 2>/dev/null)"
    if ! "$VENV/bin/python" -c "" 2>/dev/null || [ "$(cat "$VENV/wanted" 2>/dev/null)" != "$wanted" ]; then
        "$PYTHON" -m venv --clear "$VENV" || return 1
        "$VENV/bin/pip" install -q --upgrade setuptools cython || return 1
        for folder in plugins/mmsb-*/ plugins/myosotis/; do
            if [ -f "$folder/pyproject.toml" ]; then packages+=(-e "./${folder%/}[test]"); fi
        done
        "$VENV/bin/pip" install -q --no-build-isolation -e ".[test,lint]" || return 1
        # Without isolation: what is compiled is built against the mmsb of this tree.
        if [ "${#packages[@]}" -gt 0 ]; then
            "$VENV/bin/pip" install -q --no-build-isolation "${packages[@]}" || return 1
        fi
        echo "$wanted" >"$VENV/wanted"
    fi
    export PATH="$VENV/bin:$PATH"
}

mmsb_build() {
    local output
    if ! output="$("$VENV/bin/python" -W ignore setup.py -q build_ext --inplace 2>&1)"; then
        echo "$output"
        return 1
    fi
    if [ -n "$output" ]; then echo "$output"; fi
}
