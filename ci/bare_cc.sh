#!/usr/bin/env bash
# Compiles all of csrc with one plain compiler line: no per-file flag may be needed, and no warning is accepted.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
objects="$(mktemp -d)"
trap 'rm -rf "$objects"' EXIT

status=0 tried=0
for compiler in gcc clang; do
    if ! command -v "$compiler" >/dev/null; then
        echo "$compiler is not installed: skipped"
        continue
    fi
    tried=1
    if (cd "$objects" && "$compiler" -std=c11 -O2 -ffp-contract=off -Wall -Wextra -Werror -c "$OLDPWD"/csrc/*.c); then
        echo "$compiler: csrc compiles"
    else
        status=1
    fi
done
[ "$tried" = 1 ] || status=1
exit "$status"
