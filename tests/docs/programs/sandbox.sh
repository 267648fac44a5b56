#!/bin/bash
# sandbox.sh FOLDER COMMAND...: runs a command as if this machine were its own: it may write anywhere, and nothing of it
# stays but in $SHARED; it has its own network, where the names of the pages lead to itself.
set -e
folder=$1
shift
mount -t tmpfs tmpfs "$folder"
for place in / /tmp; do
    if [ $place = / ] || mountpoint -q $place; then
        mkdir -p "$folder/changed$place/x" "$folder/work$place/x" "$folder/root"
        mount -t overlay overlay -o "lowerdir=$place,upperdir=$folder/changed$place/x,workdir=$folder/work$place/x" \
            "$folder/root$place"
    fi
done
for shared in /proc /dev /sys $SHARED; do mount --rbind "$shared" "$folder/root$shared"; done
rm -rf "$folder/root/var/lib/mailvane" # a home of this machine's would be the pages' home
ip link set lo up
printf '127.0.0.1 localhost %s\n' "$NAMES" >"$folder/root/etc/hosts"
exec chroot "$folder/root" "$@"
