# $1: 0 when the last version goes.
if [ "$1" = 0 ] && command -v systemctl >/dev/null; then
    systemctl disable pilotfish.service || :
    [ -d /run/systemd/system ] && systemctl stop pilotfish.service || :
fi
exit 0
