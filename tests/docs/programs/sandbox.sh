#!/bin/bash
# sandbox.sh FOLDER COMMAND...: runs a command as if this machine were its own: it may write anywhere, and nothing of it
# stays; it has its own network, where the names of the pages lead to itself. /tmp alone is the machine's.
set -e
folder=$1
shift
mount -t tmpfs tmpfs "$folder"
mkdir "$folder"/{changed,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changed,workdir=$folder/work" "$folder/root"
for shared in proc dev sys tmp; do mount --rbind "/$shared" "$folder/root/$shared"; done
rm -rf "$folder/root/var/lib/mailvane" # a home of this machine's would be the pages' home
ip link set lo up
printf '127.0.0.1 localhost %s\n' "$NAMES" >"$folder/root/etc/hosts"
exec chroot "$folder/root" "$@"
