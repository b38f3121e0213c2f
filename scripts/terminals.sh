#!/usr/bin/env bash
# Makes the pictures of commands at work, docs/pictures/{copy,build,unpack,snapshot}-{60,120}.svg: scripts/terminals.sh
# The test that records them starts slow services on the loopback. Needs cargo, script (util-linux) and docker-registry.
set -euo pipefail
cd "$(dirname "$0")/.."
HAVERSACK_PICTURES=$PWD/docs/pictures cargo test --locked --test first_hour terminals:: -- --ignored
ls -l docs/pictures/*-{60,120}.svg
