#!/usr/bin/env bash
# Fetches real packages for the tests and the benchmark of driver toolkits: scripts/debs.sh DIR [KERNELS]
# The newest KERNELS releases (11) of 6.1 and 6.12 with their headers, and the closure of what images/driver-toolkit wants.
set -euo pipefail
dir=${1:?usage: scripts/debs.sh DIR [KERNELS]}
count=${2:-11}
cd "$(dirname "$0")/.."
wanted=$(sed -n '/^deb = \[/,/^\]/p' images/driver-toolkit/image.toml | grep -o '"[^"]*"' | tr -d '"')
of() { apt-cache search "^linux-headers-$1.*[0-9]-amd64\$|^linux-headers-$1.*deb12-amd64\$" | awk '{print $1}' | sort -V | tail -n "$2"; }
kernels=$(of '6\.1\.' $(((count + 1) / 2)); of '6\.12\.' $((count / 2)))
[ -n "$kernels" ] || { echo "error: apt knows no kernels of Debian 12" >&2; exit 1; }
# Of what kernels need, the kernel itself is left out, as images/driver-toolkit does.
closure=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    $wanted gcc $kernels | grep '^[a-z0-9]' | grep -v '^linux-image\|^linux-base\|^dpkg$\|^debconf\|^initramfs\|:' | sort -u)
mkdir -p "$dir"
cd "$dir"
if ! said=$(apt-get download -qq $closure 2>&1); then
    echo "$said" >&2
    exit 1
fi
# An archive's pool has no epochs in its names.
for file in *%3a*; do mv "$file" "${file/_[0-9]%3a/_}"; done
ls | wc -l
