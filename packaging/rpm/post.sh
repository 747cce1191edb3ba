# $1: 1 at the first installation, 2 at an upgrade.
command -v systemctl >/dev/null || exit 0
systemd-sysusers pilotfish.conf || :
[ -d /run/systemd/system ] && systemctl daemon-reload || :
if [ "$1" = 1 ]; then
    systemctl enable pilotfish.service || :
    [ -d /run/systemd/system ] && systemctl start pilotfish.service || :
fi
exit 0
