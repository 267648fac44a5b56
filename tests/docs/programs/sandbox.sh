#!/bin/bash
# sandbox.sh FOLDER COMMAND...: runs a command as if this machine were its own: it may write anywhere, and nothing of it
# stays but in $SHARED; it has its own network, where the names of the pages lead to itself.
set -e
folder=$1
shift
mount -t tmpfs tmpfs "$folder"
mkdir "$folder"/{changed,work,root}
read -r _ outside _ </proc/self/uid_map
options= # without root an overlay keeps its marks where a user may
[ "$outside" = 0 ] || options=,userxattr
for place in /*; do
    if [ -L $place ]; then
        cp -P $place "$folder/root$place"
    elif [ -d $place ]; then
        mkdir "$folder"/{changed,work,root}$place
        case $place in
        /proc | /dev | /sys) mount --rbind $place "$folder/root$place" ;;
        # these are written to, by whoever it is
        /etc) cp -r --no-preserve=ownership /etc "$folder/root/" 2>/dev/null || true ;;
        /run) ;;
        /var) mkdir -p "$folder"/root/var/{lib,log,tmp} ;;
        *)
            mount -t overlay overlay \
                -o "lowerdir=$place,upperdir=$folder/changed$place,workdir=$folder/work$place$options" \
                "$folder/root$place" 2>/dev/null || mount --rbind $place "$folder/root$place" # has other mounts in it
            ;;
        esac
    fi
done
for shared in $SHARED; do mount --rbind "$shared" "$folder/root$shared"; done
ip link set lo up
printf '127.0.0.1 localhost %s\n' "$NAMES" >"$folder/root/etc/hosts"
exec chroot "$folder/root" "$@"
