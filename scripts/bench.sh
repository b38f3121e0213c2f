#!/usr/bin/env bash
# Benchmarks, side by side with what they are compared to, in one run: scripts/bench.sh catalog …
# Prints ratios; what was measured on one machine is in the README.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${HAVERSACK_REAL_DATA:-}" ] && [ -d ../shared/data ]; then
    HAVERSACK_REAL_DATA=$(cd ../shared/data && pwd)
    export HAVERSACK_REAL_DATA
fi
[ $# -gt 0 ] || { echo "usage: scripts/bench.sh catalog" >&2; exit 2; }
for name in "$@"; do
    [ -f "benches/$name.rs" ] || { echo "error: there is no benchmark called $name" >&2; exit 2; }
    cargo bench --locked --bench "$name"
done
