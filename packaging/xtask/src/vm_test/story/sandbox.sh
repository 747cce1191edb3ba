# What the running process may do and see.
pid=$(main_pid)
status() { $B awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"; }
inside() { nsenter -t "$pid" -m "$@"; }
# BPF 39, PERFMON 38, NET_ADMIN 12, SYS_ADMIN 21, SYS_PTRACE 19, DAC_READ_SEARCH 2
mask=000000c000281004
check "its capabilities are the six of the unit" [ "$(status CapEff) $(status CapBnd) $(status CapPrm)" = "$mask $mask $mask" ]
check "it does not run as root" [ "$(status Uid)" = "$(id -u pilotfish)" ]
check "it gains no privileges" [ "$(status NoNewPrivs)" = 1 ]
check "its system calls are filtered" [ "$(status Seccomp)" = 2 ]
for path in /etc/x /usr/x /boot/x /sys/fs/cgroup/x; do
    check "its view of $path is read-only" not inside touch $path
done
check "it sees no disk" not inside ls /dev/vda
home=$(getent passwd root | cut -d : -f 6)
echo private >"$home/private"
check "it sees no home" not inside cat "$home/private"
check "members of its group can ask it" [ "$(stat -c '%U:%G %a' /run/pilotfish /run/pilotfish/pilotfish.sock | tr '\n' ' ')" = "pilotfish:pilotfish 750 pilotfish:pilotfish 660 " ]
check "it dies before the workloads" [ "$(cat "/proc/$pid/oom_score_adj")" = 800 ]
exposure=$(systemd-analyze security $UNIT --no-pager | tail -n 1 | tr -cd ' -~')
say "info $exposure"
low() { $B awk -v line="$exposure" 'BEGIN { n = split(line, words, " "); for (i = 1; i < n; i++) if (words[i] ~ /^[0-9.]+$/) exit !(words[i] <= 3.6); exit 1 }'; }
check "its exposure is 3.6 at most" low
