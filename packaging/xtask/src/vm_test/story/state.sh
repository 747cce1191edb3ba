# A disk that is full, then one that is read-only, under the counters; a configuration that is none.
state=/var/lib/pilotfish
systemctl stop $UNIT
check "counters are in a file while nobody counts" test -s $state/counters.json
mount -t tmpfs -o "size=64k,mode=750,uid=$(id -u pilotfish),gid=$(id -g pilotfish)" none $state
fresh_start
wait_for 60 is_attached
dd if=/dev/zero of=$state/filler bs=4k 2>/dev/null
mark
fresh_restart
check "a full disk is told of" journal_says "counters are not kept"
check "with the reason" journal_has "F_ERROR=.*no space left"
check "it runs on a full disk" wait_for 60 is_attached
request 20
check "it counts on a full disk" grows_to 20
rm $state/filler
fresh_restart
wait_for 60 is_attached
check "counters are kept once there is room" grows_to 20
mount -o remount,ro $state
mark
fresh_restart
check "a read-only disk is told of" journal_says "counters are not kept"
check "with its reason" journal_has "F_ERROR=.*read-only"
check "it runs on a read-only disk" wait_for 60 is_attached
request 20
check "it counts on a read-only disk" grows_to 20
systemctl stop $UNIT
umount $state

printf '[admin]\nlisten = "nowhere"\n' >/etc/pilotfish/agent.toml
systemctl reset-failed $UNIT
mark
check "a start with a faulty file fails" not systemctl start $UNIT
check "with line and key" journal_says "agent.toml:2.*listen"
not_again() { echo "$(show NRestarts) $(show ActiveState) $(show ExecMainStatus)"; [ "$(show NRestarts) $(show ActiveState) $(show ExecMainStatus)" = "0 failed 64" ]; }
check "it is not tried again" not_again
rm /etc/pilotfish/agent.toml
check "it starts without a file" fresh_start
check "it is attached without a file" wait_for 60 is_attached
