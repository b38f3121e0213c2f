#!/usr/bin/env bash
# Builds the clients that the tests of interoperation and `scripts/bench.sh peers` need, with Go: scripts/peers.sh [DIR]
#
# They go to target/peers, or DIR; those that are there are left as they are. All are pinned: what they print is compared. cosign takes
# ten minutes on two cores. `scripts/peers.sh DIR bench` adds what only the benchmark needs.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v go >/dev/null || { echo "error: Go is not installed; see https://go.dev/doc/install" >&2; exit 1; }
mkdir -p "${1:-target/peers}"
GOBIN=$(cd "${1:-target/peers}" && pwd)
export GOBIN
modules="
    github.com/google/go-containerregistry/cmd/crane@v0.22.1
    github.com/regclient/regclient/cmd/regctl@v0.11.7
    oras.land/oras/cmd/oras@v1.3.6
    helm.sh/helm/v3/cmd/helm@v3.22.0
    github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
"
[ "${2:-}" != bench ] || modules+="
    github.com/regclient/regclient/cmd/regsync@v0.11.7
    github.com/distribution/distribution/v3/cmd/registry@v3.1.2
"
for module in $modules; do
    program=${module%@*}
    program=$GOBIN/${program##*/}
    if [ ! -x "$program" ]; then
        echo "==> ${module##*/}"
        # Elsewhere, so that the vendored modules of a workspace play no part.
        (cd "$GOBIN" && go install "$module")
    fi
done
