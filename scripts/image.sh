#!/bin/sh
# Builds the program's own image from this checkout with podman: `scripts/image.sh [OPTION…]`, with options of `podman build`.
#
# git's directory does not go into the build, so the commit is told to it, for `haversack --version` in the image.
set -eu
cd "$(dirname "$0")/.."
commit=$(git show --no-patch --format='%H %ct' HEAD)
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
    commit="${commit%% *}+changes ${commit##* }"
fi
exec podman build --build-arg "COMMIT=$commit" --build-arg "SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH-}" \
    --tag localhost/haversack "$@" .
