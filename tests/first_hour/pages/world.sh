#!/usr/bin/env bash
# A machine of its own for the commands of the pages: `world.sh DIR USER SCRIPT` in namespaces of mounts, processes and networks
# that `unshare` made. Hosts have the names that the pages have, and answer with a certificate that is trusted here; podman's
# storage, its locks and the users are those of DIR. All of it ends with this script.
set -euo pipefail
dir=$1 user=$2 script=$3

ip link set lo up
for file in passwd group subuid subgid hosts; do mount --bind "$dir/etc/$file" "/etc/$file"; done
# What podman keeps outside its storage: locks, and what runs.
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
chmod 1777 /dev/shm
mkdir -p "/run/user/$(id -u "$user")"
chown "$user" "/run/user/$(id -u "$user")"

cd "$dir/hosts"
for name in registry-443 registry-5000 bastion-5000; do
    docker-registry serve "$name.yml" >"$name.log" 2>&1 &
done
(cd www && exec python3 -m http.server --bind 127.0.0.4 80 >../www.log 2>&1) &
for place in 127.0.0.2/443 127.0.0.2/5000 127.0.0.3/5000 127.0.0.4/80; do
    for _ in {1..400}; do
        if (exec 3<>"/dev/tcp/$place") 2>/dev/null; then continue 2; fi
        sleep 0.05
    done
    echo "nobody listens at $place" >&2
    exit 1
done

home=$dir/home
[ "$user" = root ] && export CONTAINERS_STORAGE_CONF=$dir/storage.conf
cd "$home"
# Not `su`: the user has no shell to log in with, and needs none.
setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env -i \
    HOME="$home" USER="$user" PATH="$dir/bin:$PATH" XDG_RUNTIME_DIR="/run/user/$(id -u "$user")" \
    HAVERSACK_CA_FILE="$dir/hosts/authority.crt" CONTAINERS_CONF="$dir/containers.conf" \
    ${CONTAINERS_STORAGE_CONF:+CONTAINERS_STORAGE_CONF="$CONTAINERS_STORAGE_CONF"} \
    bash "$script"
