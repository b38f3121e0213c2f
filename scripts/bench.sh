#!/usr/bin/env bash
# Benchmarks, side by side with what they are compared to, in one run: scripts/bench.sh catalog …
# Prints ratios; what was measured on one machine is in docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${HAVERSACK_REAL_DATA:-}" ] && [ -d ../shared/data ]; then
    HAVERSACK_REAL_DATA=$(cd ../shared/data && pwd)
    export HAVERSACK_REAL_DATA
fi
[ $# -gt 0 ] || { echo "usage: scripts/bench.sh catalog toolkit …" >&2; exit 2; }
[ ! -d target/peers ] || PATH=$PWD/target/peers:$PATH
cargo build --release --locked
HAVERSACK_BENCH_BINARY=$PWD/target/$(rustc -vV | sed -n 's/^host: //p')/release/haversack
export HAVERSACK_BENCH_BINARY
for name in "$@"; do
    # A benchmark may have parts: images.rs, images_build.rs …
    found=
    for part in "benches/$name.rs" "benches/$name"_*.rs; do
        [ -f "$part" ] || continue
        found=yes
        cargo bench --locked --profile dev --bench "$(basename "$part" .rs)"
    done
    [ -n "$found" ] || { echo "error: there is no benchmark called $name" >&2; exit 2; }
done
