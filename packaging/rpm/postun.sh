# After an upgrade ($1 = 1): the new program instead of the old. After the last version went: what the agent wrote.
if [ "$1" -ge 1 ]; then
    if [ -d /run/systemd/system ]; then
        systemctl try-restart pilotfish.service || :
    fi
else
    rm -rf /var/lib/pilotfish /run/pilotfish
    # Directories belong to no package here; what an administrator has left in one keeps it.
    rmdir /etc/pilotfish /usr/share/doc/pilotfish /usr/share/licenses/pilotfish 2>/dev/null || :
    [ -d /run/systemd/system ] && systemctl daemon-reload || :
fi
exit 0
