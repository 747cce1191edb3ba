#!/bin/sh
# The life of the packages on a node, told inside the virtual machine. Each check prints one line.
cd /srv/test || exit 1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
. ./words.sh
say "kernel $(uname -r), systemd $(systemctl --version | $B awk 'NR == 1 { print $2 }'), $(containerd --version)"
for scene in $(cat scenes); do
    say "scene $scene ($($B awk '{ print $1 }' /proc/uptime) s)"
    . "./$scene.sh"
done
