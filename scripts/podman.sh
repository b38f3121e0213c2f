# Sourced by the other scripts: finds out whether podman can run containers here, and with which settings.
#
# Sets PODMAN_WORKS to yes or no, and CONTAINERS_CONF where podman's own settings do not work and ours do.
podman_runs() {
    # An image without a base that does nothing needs no network and no storage worth mentioning.
    local dir status
    dir=$(mktemp -d) || return 1
    mkdir "$dir/rootfs"
    podman run --rm --network none --rootfs "$dir/rootfs" /nothing >"$dir/log" 2>&1
    # 127 is the container's word that there is no such program: everything before it worked.
    status=$?
    rm -rf "$dir"
    [ "$status" = 127 ]
}

find_podman() {
    PODMAN_WORKS=no
    command -v podman >/dev/null 2>&1 || return 0
    if podman_runs; then
        PODMAN_WORKS=yes
        return 0
    fi
    local ours="$1/testdata/podman/containers.conf"
    if CONTAINERS_CONF=$ours podman_runs; then
        export CONTAINERS_CONF=$ours
        PODMAN_WORKS=yes
    fi
}
