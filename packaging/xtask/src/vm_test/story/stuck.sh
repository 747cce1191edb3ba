# Files that never answer: whoever reads them hears no signal, not even SIGKILL. Nothing waits for that process: no
# restart, no stop and no start, though it is in the unit's control group.
mkdir -p /srv/silent/self
$B modprobe fuse 2>/dev/null
/srv/test/silent /srv/silent/self &
silent=$!
check "there are files that never answer" wait_for 20 grep -q '^silent /srv/silent/self' /proc/mounts
# Of the reader, not of the agent's own threads of that name.
stuck() { ps -eL -o pid=,comm=,stat= | $B awk -v main="$(main_pid)" '$1 != main && $2 == "pf-read" && $3 ~ /^D/ { print $1 }' | sort -u; }
are_stuck() { [ "$(stuck | wc -l)" -ge "$1" ]; }
reads_hang() { [ "$(metrics | sum 'pilotfish_late_reads_total{file="process"')" -gt 0 ]; }
quickly() { # COMMAND...: within TimeoutStopSec, after which systemd kills, and waits again
    mark
    timeout -k 1 120 "$@" && ! journal_says "timed out"
}
printf '[debug]\nproc = "/srv/silent"\n' >/etc/pilotfish/agent.toml
check "it starts beside them" fresh_restart
check "it is attached beside them" wait_for 60 is_attached
check "a read of it hangs" wait_for 60 reads_hang

systemctl reset-failed $UNIT
before=$(counted)
check "a restart waits for nobody" quickly systemctl restart $UNIT
check "who reads is left behind, and stuck" wait_for 30 are_stuck 1
in_group() { $B grep -qx "$(stuck | head -n 1)" "/sys/fs/cgroup$(show ControlGroup)/cgroup.procs"; }
check "it is in the control group yet" in_group
check "the next one is attached" wait_for 60 is_attached
request 20
check "the next one counts, on the same port" grows_to $((before + 20))

check "its reads hang, too" wait_for 60 reads_hang
restarts=$(show NRestarts)
kill -9 "$(main_pid)"
check "it is restarted after kill -9, beside two" wait_for 60 restarted "$restarts"
check "two are stuck" wait_for 30 are_stuck 2
check "it is attached after kill -9, beside two" wait_for 60 is_attached
request 20
check "it counts after kill -9, beside two" grows_to 20

check "a stop waits for nobody" quickly systemctl stop $UNIT
check "the unit is not failed" [ "$(show ActiveState) $(show Result)" = "inactive success" ]
check "a start waits for nobody" quickly systemctl start $UNIT
check "it is attached after a stop" wait_for 60 is_attached

# Their end lets go of everybody.
kill "$silent"
$B umount -l /srv/silent/self
none_is_stuck() { [ "$(stuck | wc -l)" = 0 ]; }
check "none is left when the files are gone" wait_for 30 none_is_stuck
: >/etc/pilotfish/agent.toml
check "it starts as before" fresh_restart
check "it is attached as before" wait_for 60 is_attached
