#!/usr/bin/env bash
# Repeats the kernel and law suites once per CPU level that a machine may lack; with all that there is, ci/test runs
# them anyway.
#   ci/isa_ladder.sh               without each of them in turn, and what is built on it
#   ci/isa_ladder.sh avx2 sse42    these only ("" disables nothing)
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
mmsb_environment && mmsb_build || exit 1

places=()
for folder in tests/kernels tests/laws; do
    if [ -d "$folder" ]; then places+=("$folder"); fi
done
if [ "${#places[@]}" -eq 0 ]; then
    echo "no kernel or law suite yet"
    exit 0
fi
if [ "$#" -eq 0 ]; then set -- avx512 avx2 pclmul sse42; fi

# Few examples: the suite draws many, and comparing the kernels byte by byte does not depend on that.
export MMSB_HYPOTHESIS_PROFILE=quick
status=0
for level in "$@"; do
    begin=$SECONDS
    MMSB_DISABLE_CPU="$level" python -m pytest -n 2 "${places[@]}" || status=1
    echo "--- without '${level:-nothing}': $((SECONDS - begin)) s"
done
exit "$status"
