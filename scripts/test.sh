#!/usr/bin/env bash
# All checks: format, lints, tests. scripts/test.sh [--install]
#
# It changes nothing but target/, unless it is told to: with --install, or in CI (the variable CI), it installs what the tests
# need (as root on Debian or Fedora) and fetches validators and real packages into target/. It stops no service.
#
# A test that needs something says so in the reason why it is ignored ("needs podman; …"). Here, each of them is run
# when what it needs is there, and listed with the reason when it is not.
set -euo pipefail
cd "$(dirname "$0")/.."

install=
[ -n "${CI:-}" ] && install=yes
case ${1:-} in
    --install) install=yes ;;
    "") ;;
    *) echo "usage: scripts/test.sh [--install]" >&2; exit 2 ;;
esac
echo "==> Takes 25 minutes on two cores, and 5 GB in target/; $(df --output=avail -h . | tail -n 1 | xargs) are free"

debian="chromium gcc openssl podman buildah runc skopeo docker-registry createrepo-c rpm cpio dpkg-dev apt-utils gnupg xz-utils make dwarves squashfs-tools zstd umoci python3-pip jq python3-venv wrk"
fedora="chromium gcc openssl podman buildah runc skopeo docker-distribution createrepo_c rpm-build cpio dpkg-dev gnupg2 xz make dwarves squashfs-tools zstd jq python3"
missing() { for tool in cc chromium openssl podman buildah runc skopeo docker-registry createrepo_c rpmbuild cpio dpkg-scanpackages apt-ftparchive gpg make pahole mksquashfs zstd umoci jq wrk containerd; do
    command -v "$tool" >/dev/null || echo "$tool"; done; }
if [ -n "$(missing)" ] && [ -z "$install" ]; then
    echo "==> Not installed: $(missing | xargs)"
    echo "    Tests that need them are left out; scripts/test.sh --install installs them (as root)."
elif [ -n "$(missing)" ] && [ "$(id -u)" != 0 ]; then
    echo "==> Not installed, as this user is not root: $(missing | xargs)"
elif [ -n "$(missing)" ]; then
    echo "==> Installing what the tests need: $(missing | xargs)"
    if command -v apt-get >/dev/null; then
        apt-get update -qq || true
        # One by one where not all can be had: a missing one costs its own tests only.
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $debian >/dev/null ||
            for package in $debian; do DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null || true; done
        # A daemon that is not asked for would change a machine's network: in CI only.
        [ -z "${CI:-}" ] || command -v dockerd >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq docker.io >/dev/null || true
        # Not where Docker's own is, which Debian's would take the place of.
        command -v containerd >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq containerd >/dev/null || true
    elif command -v dnf >/dev/null; then
        dnf install -y -q --skip-unavailable $fedora || true
    fi
fi
# Validators for deploy/, .github/ and SBOMs, and real packages for driver toolkits: what cannot be had costs its own tests only.
validators=target/validators
if [ -n "$install" ]; then
    [ -x "$validators/bin/pip" ] || python3 -m venv "$validators" >/dev/null 2>&1 || true
    for tool in kubernetes-validate:kubernetes-validate check-jsonschema:check-jsonschema pyspdxtools:spdx-tools; do
        command -v "${tool%%:*}" >/dev/null || [ -x "$validators/bin/${tool%%:*}" ] ||
            "$validators/bin/pip" install --quiet "${tool#*:}" >/dev/null 2>&1 || true
    done
fi
PATH=$PWD/$validators/bin:$PATH
# Whether people who cannot see or point can use the page is for axe-core to say.
if [ -z "${HAVERSACK_AXE:-}" ]; then
    [ -e "$validators/axe/package/axe.min.js" ] || [ -z "$install" ] || ! command -v npm >/dev/null || {
        mkdir -p "$validators/axe" && (cd "$validators/axe" && npm pack --silent axe-core@4 | xargs tar xzf) >/dev/null 2>&1; } || true
    [ ! -e "$validators/axe/package/axe.min.js" ] || export HAVERSACK_AXE=$PWD/$validators/axe/package/axe.min.js
fi
# Other clients of registries, which Go builds.
[ -z "$install" ] || ! command -v go >/dev/null || scripts/peers.sh target/peers >/dev/null 2>&1 || true
PATH=$PATH:$PWD/target/peers
if [ -z "${HAVERSACK_DEBS:-}" ] && command -v apt-get >/dev/null; then
    if [ -n "$(ls target/debs 2>/dev/null)" ] || { [ -n "$install" ] && scripts/debs.sh target/debs 4 >/dev/null 2>&1; }; then
        export HAVERSACK_DEBS=$PWD/target/debs
    fi
fi

echo "==> Format"
cargo fmt --check

echo "==> Lints"
cargo clippy --locked --all-targets -- --deny warnings

echo "==> Tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --locked --no-fail-fast 2>&1 | tee "$log"

. scripts/podman.sh
find_podman "$PWD"
dockerd_runs() {
    command -v dockerd >/dev/null && command -v docker >/dev/null || return 1
    local dir daemon status=1
    dir=$(mktemp -d)
    dockerd --bridge=none --iptables=false --ip6tables=false --ip-forward=false --storage-driver=vfs --host "unix://$dir/socket" \
        --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" >"$dir/log" 2>&1 &
    daemon=$!
    for _ in $(seq 100); do
        docker -H "unix://$dir/socket" version >/dev/null 2>&1 && status=0 && break
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.2
    done
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    rm -rf "$dir"
    return $status
}
have() {
    case $1 in
        podman) [ "$PODMAN_WORKS" = yes ] ;;
        # Its daemon needs root and the right to mount.
        dockerd) dockerd_runs ;;
        # Making a file system needs root and the right to mount.
        mount) local dir; dir=$(mktemp -d); mount -t tmpfs tmpfs "$dir" 2>/dev/null && umount "$dir" ;;
        # The machine's own sources of Debian's packages are reachable.
        debian-mirror) (cd "$(mktemp -d)" && apt-get -qq download linux-base) >/dev/null 2>&1 ;;
        *[!A-Z_]*) command -v "$1" >/dev/null ;;
        # In capitals: a variable that says where something is.
        *) [ -n "${!1:-}" ] ;;
    esac
}
run=() left=()
while IFS= read -r line; do
    name=${line#test } name=${name%% ... ignored*}
    reason=${line##* ... ignored, }
    needs=${reason#needs } needs=${needs%%;*}
    lacking=
    for need in ${needs//[, ]/ }; do
        [ "$need" = and ] && continue
        have "$need" || lacking=$need
    done
    if [ -z "$lacking" ]; then run+=("$name"); else left+=("$name: $lacking is not there ($reason)"); fi
done < <(grep -E '^test .* \.\.\. ignored, needs ' "$log" || true)
if [ ${#run[@]} -gt 0 ]; then
    echo "==> Tests with what is here: ${#run[@]}"
    cargo test --locked --no-fail-fast -- --ignored --exact "${run[@]}"
fi
if [ ${#left[@]} -gt 0 ]; then
    echo "==> Not run: ${#left[@]}"
    printf 'ignored  %s\n' "${left[@]}"
fi
echo "==> All passed"
