#!/usr/bin/env bash
# Plugins as users meet them. First the quick part of the core's suite, against a wheel, where no plugin is installed.
# Then every package under plugins/ as a wheel in a clean environment, each alone and all together, with one package of
# every kind fresh from `mmsb plugins new`; the doctor looks at each, and their tests run.
#   ci/plugins.sh          all of it
#   ci/plugins.sh none     the core without plugins only
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
case "${1:-}" in
    "" | none) ;;
    *)
        echo "usage: ci/plugins.sh [none]" >&2
        exit 2
        ;;
esac
mmsb_environment && mmsb_build || exit 1
export MMSB_HYPOTHESIS_PROFILE=quick
unset PYTHONPATH # else the tree would hide what is installed
root="$PWD"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

failed=()
stage() {
    local name="$1" begin=$SECONDS status=0
    shift
    "$@" || status=$?
    if [ "$status" -ne 0 ]; then failed+=("$name"); fi
    echo "--- $name: $((SECONDS - begin)) s, exit status $status"
    return "$status"
}

# wheel SOURCE FOLDER: builds a wheel with the tools of the project's environment.
wheel() { "$VENV/bin/pip" wheel -q --no-deps --no-build-isolation -w "$2" "$1"; }

# environment NAME WHAT...: a clean environment with these wheels, what they need, and two workers for their tests.
environment() {
    local name="$1"
    shift
    "$PYTHON" -m venv "$work/$name" && "$work/$name/bin/pip" install -q pytest-xdist "$@"
}

# try NAME TESTS: runs tests in an environment, from a folder where only the installed mmsb can be imported. With few
# examples: the suite of the tree tries many.
try() {
    local place="$work/run-$1-$RANDOM"
    mkdir "$place" && cp -r "$2" "$place/tests" || return 1
    printf 'from hypothesis import settings\n\n%s\n%s\n' 'settings.register_profile("quick", max_examples=20)' \
        'settings.load_profile("quick")' >"$place/conftest.py"
    (cd "$place" && MMSB_PLUGINS_STRICT=1 "$work/$1/bin/python" -m pytest -q -n 2 -p no:cacheprovider .)
}

# doctor NAME: every plugin of an environment is sound.
doctor() {
    local plugin
    for plugin in $("$work/$1/bin/mmsb" plugins --json |
        "$work/$1/bin/python" -c 'import json, sys; print(*(r["name"] for r in json.load(sys.stdin)))'); do
        "$work/$1/bin/mmsb" plugins doctor "$plugin" >"$work/doctor" || { cat "$work/doctor"; return 1; }
    done
}

core() {
    mkdir "$work/core" && cp -r pyproject.toml README.md csrc docs tests "$work/core" || return 1
    cd "$work/core" || return 1
    # Without what is below Python, which knows of no plugin: kernels, their laws, C programs.
    "$work/none/bin/python" -m pytest -q -n 2 -m "not slow" -p no:cacheprovider --ignore=tests/unit/test_c_programs.py \
        tests/crash tests/docs tests/formats tests/hooks tests/plugins tests/unit
}

stage "wheel of mmsb" wheel . "$work/wheels" || exit 1
mmsb=("$work"/wheels/mmsb-*.whl)
stage "environment without plugins" environment none "${mmsb[0]}[test]" && stage "core without plugins" core
cd "$root" || exit 1

if [ "${1:-}" != none ]; then
    together=()
    for folder in plugins/*/; do
        name="$(basename "$folder")"
        if [ ! -f "$folder/pyproject.toml" ]; then continue; fi
        stage "wheel of $name" wheel "./$folder" "$work/wheels-$name" || continue
        built=("$work/wheels-$name"/*.whl)
        together+=("${built[0]}[test]")
        stage "$name alone" environment "$name" "${mmsb[0]}[testing]" "${built[0]}[test]" || continue
        stage "doctor of $name" doctor "$name"
        stage "tests of $name alone" try "$name" "$folder/tests"
    done
    mkdir "$work/new"
    for kind in $("$VENV/bin/python" -c 'from mmsb.cli.scaffold import KINDS; print(*KINDS)'); do
        stage "new $kind" "$work/none/bin/mmsb" plugins new "fresh-$kind" --kind "$kind" --into "$work/new" || continue
        stage "wheel of a new $kind" wheel "$work/new/fresh-$kind" "$work/wheels-fresh-$kind" || continue
        built=("$work/wheels-fresh-$kind"/*.whl)
        together+=("${built[0]}[test]")
    done
    if stage "all together" environment all "${mmsb[0]}[testing]" "${together[@]}"; then
        stage "doctor of all" doctor all
        for tests in plugins/*/tests "$work"/new/*/tests; do stage "all together: $tests" try all "$tests"; done
    fi
fi

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
