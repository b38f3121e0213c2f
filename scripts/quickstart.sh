#!/usr/bin/env bash
# From a fresh clone to a dumped catalog: builds haversack, takes a snapshot from recorded pages, builds the catalog
# image from it and runs that in dump-only mode. Needs cargo and a C compiler; podman where there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
out=.quickstart
image=localhost/haversack-catalog:quickstart

say() { printf '\n==> %s\n' "$*"; }

for tool in cargo cc; do
    command -v "$tool" >/dev/null || { echo "error: $tool is missing; install Rust (rustup) and a C compiler (gcc)" >&2; exit 1; }
done

say "Building (a few minutes the first time)"
cargo build --release --locked
haversack=$(echo target/*/release/haversack)
ls -l "$haversack" | awk '{ printf "one static file of %.1f MB\n", $5 / 1e6 }'

rm -rf "$out"
mkdir -p "$out/dump"

say "Taking a snapshot from the recorded pages in testdata/catalog"
"$haversack" catalog snapshot --from testdata/catalog --db "$out/catalog.db"

say "Building the catalog image"
"$haversack" build images/catalog --catalog "$out/catalog.db" --output "oci-archive:$out/catalog.tar:$image"

. scripts/podman.sh
find_podman "$PWD"
if [ "$PODMAN_WORKS" = yes ]; then
    say "Running it with podman in dump-only mode, without a network"
    podman load --quiet --input "$out/catalog.tar"
    podman run --rm --network none --read-only -v "$PWD/$out/dump:/tmp/dump:Z" --env OCT_DUMP_ONLY=true "$image"
else
    say "podman does not run here: dumping with haversack itself"
    "$haversack" dump --db "$out/catalog.db" --dump-dir "$out/dump"
fi

say "What certsuite reads"
(cd "$out/dump" && find . -type f | sort)

cat <<END

==> Next
Ask it:          $haversack catalog check operator acme-db-operator.v1.0.0 --ocp-version 4.16 --db $out/catalog.db
Point certsuite: certsuite run --offline-db $PWD/$out/dump …
The real thing:  $haversack catalog snapshot --db catalog.db          (needs the network; again later, it refreshes)
                 $haversack build images/catalog --catalog catalog.db --output oci-archive:catalog.tar
On the bastion:  podman load --input catalog.tar
                 podman run --rm --network none -v DIR:/tmp/dump:Z --env OCT_DUMP_ONLY=true localhost/haversack-catalog
END
