#!/usr/bin/env bash
# Makes fuzz/corpus/TARGET: what is in testdata/, by what reads it, and what the mutation run begins with.
set -euo pipefail
cd "$(dirname "$0")/.."

put() { # TARGET FILE…
    local target=$1 file
    shift
    mkdir -p "fuzz/corpus/$target"
    for file; do
        cp "$file" "fuzz/corpus/$target/$(sha256sum "$file" | cut -c 1-16)"
    done
}

HAVERSACK_CORPUS=$PWD/fuzz/corpus cargo test --locked --test mutation every_reader_has_a_fuzz_target
put chart-index testdata/catalog/index.yaml
put inrelease $(find testdata/kernel/apt -name InRelease -o -name 'Release*' -type f) testdata/kernel/*.asc
for index in $(find testdata/kernel/apt -name 'Packages.xz'); do
    xz --decompress --stdout "$index" >"$index.plain"
    put packages "$index.plain"
    rm "$index.plain"
done
put definition images/*/image.toml
