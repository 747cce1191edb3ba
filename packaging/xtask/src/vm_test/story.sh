#!/bin/sh
# The life of the packages on a node, told inside the virtual machine. Each check prints one line; nothing here takes a fixed nap for an answer.
cd /srv/test || exit 1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
B=/bin/busybox

say() { echo "vm-story: $*"; }
check() { # NAME COMMAND...
    checked=$1
    shift
    if "$@" >/tmp/out 2>&1; then say "ok $checked"; else say "FAILED $checked: $(tail -n 3 /tmp/out | tr '\n' '|')"; fi
}
holds() { sh -c "$1"; }
# A minute of a guest is some seconds of a node.
wait_for() { # SECONDS SHELL-CONDITION
    left=$(($1 * 2))
    until sh -c "$2" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "still not: $2"; return 1; }
        $B sleep 0.5
    done
}
show() { systemctl show -p "$1" --value pilotfish.service; }
metrics() { $B wget -q -O - http://127.0.0.1:9464/metrics; }
# Sum of the counts of web's requests as its own end saw them.
counted() { metrics | grep '^http_server_request_duration_seconds_count{' | grep 'reporter="server"' | grep 'server_workload="web-0"' |
    $B awk '{ sum += $2 } END { print sum + 0 }'; }
attached() { metrics | grep '^pilotfish_netns{state="attached"}' | $B awk '{ print $2 + 0 }'; }
lost() { metrics | grep '^pilotfish_exchanges_lost_total' | $B awk '{ sum += $2 } END { print sum + 0 }'; }
requests=0
request() { # COUNT
    ctr -n k8s.io tasks exec --exec-id "load$requests" client /bin/busybox sh -c \
        "for i in \$(/bin/busybox seq $1); do /bin/busybox wget -q -O /dev/null http://10.99.0.2/ || exit 1; done" || return 1
    requests=$((requests + $1))
}
# METRICS CALLS: what is shown grows to at least this.
grows_to() { wait_for 60 "[ \$(/srv/test/counted) -ge $1 ]" || { echo "counted $(counted) of $1"; return 1; }; }

# The helper that `wait_for` calls from a shell of its own.
{ echo '#!/bin/sh'; echo "B=$B"; sed -n '/^metrics()/,/^lost()/p' story.sh; echo 'case $0 in *attached) attached ;; *lost) lost ;; *) counted ;; esac'; } >/srv/test/counted
cp counted attached_now && cp counted lost_now && mv attached_now attached && mv lost_now lost
chmod +x counted attached lost

container() { # NAME ADDRESS COMMAND...
    name=$1 address=$2
    shift 2
    mkdir -p "/srv/$name/bin" "/srv/$name/www" "/srv/$name/proc"
    cp $B "/srv/$name/bin/"
    echo hello >"/srv/$name/www/index.html"
    ctr -n k8s.io run -d --rootfs --label io.cri-containerd.kind=sandbox --label io.kubernetes.pod.namespace=shop \
        --label "io.kubernetes.pod.name=$name-0" --label "io.kubernetes.pod.uid=uid-$name" "/srv/$name" "$name" "$@" || return 1
    pid=$(ctr -n k8s.io tasks list | $B awk -v name="$name" '$1 == name { print $2 }')
    ip link add "host-$name" type veth peer name eth0 netns "$pid" || return 1
    ip link set "host-$name" master bridge up
    nsenter -t "$pid" -n ip addr add "$address/24" dev eth0
    nsenter -t "$pid" -n ip link set eth0 up
    nsenter -t "$pid" -n ip link set lo up
}
filters() { # Programs of ours at the container's interface.
    pid=$(ctr -n k8s.io tasks list | $B awk -v name="$1" '$1 == name { print $2 }')
    { nsenter -t "$pid" -n tc filter show dev eth0 ingress; nsenter -t "$pid" -n tc filter show dev eth0 egress; } | grep -c pilotfish
}

say "kernel $(uname -r), systemd $(systemctl --version | $B awk 'NR == 1 { print $2 }'), $(containerd --version)"

# A node that is not ready for it yet.
systemctl stop containerd
check "apt installs the deb" apt-get install -y ./first.deb
check "the unit is active without a containerd" wait_for 60 'systemctl is-active pilotfish.service'
check "STATUS says what it waits for" wait_for 30 'systemctl show -p StatusText pilotfish.service | grep -q "waiting for containerd"'
say "info start to READY: $(systemctl show -p InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic --value pilotfish.service | tr '\n' ' ')us (from, to; emulated)"
check "it is enabled" systemctl is-enabled pilotfish.service
check "pilotfish check finds nothing missing" holds 'pilotfish check >/srv/test/check.out; code=$?; ! grep MISSING /srv/test/check.out && exit $code'
systemctl start containerd
check "STATUS names containerd" wait_for 60 'systemctl show -p StatusText pilotfish.service | grep -q containerd.sock'

# The sandbox of the running process.
pid=$(show MainPID)
status() { $B awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"; }
# BPF 39, PERFMON 38, NET_ADMIN 12, SYS_ADMIN 21, SYS_PTRACE 19, DAC_READ_SEARCH 2
mask=000000c000281004
check "its capabilities are the six of the unit" [ "$(status CapEff) $(status CapBnd) $(status CapPrm)" = "$mask $mask $mask" ]
check "it does not run as root" [ "$(status Uid)" = "$(id -u pilotfish)" ]
check "it gains no privileges" [ "$(status NoNewPrivs)" = 1 ]
check "its system calls are filtered" [ "$(status Seccomp)" = 2 ]
for path in /etc/x /usr/x /boot/x /sys/fs/cgroup/x; do
    check "its view of $path is read-only" holds "! nsenter -t $pid -m touch $path"
done
check "it sees no disk" holds "! nsenter -t $pid -m ls /dev/vda"
echo private >~root/private
check "it sees no home" holds "! nsenter -t $pid -m cat ~root/private"
check "members of its group can ask it" [ "$(stat -c '%U:%G %a' /run/pilotfish /run/pilotfish/pilotfish.sock | tr '\n' ' ')" = "pilotfish:pilotfish 750 pilotfish:pilotfish 660 " ]
check "it dies before the workloads" [ "$(cat "/proc/$pid/oom_score_adj")" = 800 ]
say "info $(systemd-analyze security pilotfish.service | tail -n 1 | tr -cd ' -~')"

# Two pods, counted and named.
ip link add bridge type bridge
ip link set bridge up
ip addr add 10.99.0.1/24 dev bridge
check "a server starts" container web 10.99.0.2 /bin/busybox httpd -f -p 80 -h /www
check "a client starts" container client 10.99.0.3 /bin/busybox sleep 100000
check "both are attached" wait_for 60 '[ "$(/srv/test/attached)" = 2 ]'
request 20
check "its requests are counted and named" grows_to 20
check "both ends have names" holds 'pilotfish edges | grep client-0 | grep -q web-0'

# Faults.
restarts=$(show NRestarts)
check "reload is taken" systemctl reload pilotfish.service
check "reload keeps the process" [ "$(show MainPID)" = "$pid" ]
echo 'surprise = 1' >>/etc/pilotfish/agent.toml
check "reload of a faulty file fails" holds '! systemctl reload pilotfish.service'
check "it names line and key" holds 'journalctl -u pilotfish -n 40 --no-pager | grep -q "agent.toml:.*surprise"'
check "the old process goes on" [ "$(systemctl is-active pilotfish.service) $(show MainPID)" = "active $pid" ]
sed -i '/surprise/d' /etc/pilotfish/agent.toml

systemctl restart containerd
check "containerd's restart keeps the process" [ "$(show MainPID)" = "$pid" ]
check "containerd is found again" wait_for 60 'systemctl show -p StatusText pilotfish.service | grep -q containerd.sock'
request 20
check "it still counts" grows_to 40

kill -9 "$pid"
check "it is restarted after kill -9" wait_for 60 "[ \$(systemctl show -p NRestarts --value pilotfish.service) -gt $restarts ] && systemctl is-active pilotfish.service"
check "it is attached again" wait_for 60 '[ "$(/srv/test/attached)" = 2 ]'
# Nothing is taken over after a kill: what was written before would be older than what was scraped.
check "counters begin anew after kill -9" [ "$(counted)" = 0 ]
request 20
check "it counts again" grows_to 20

restarts=$(show NRestarts) pid=$(show MainPID)
before=$(counted)
kill -STOP "$pid"
check "the watchdog ends what is stopped" wait_for 120 "[ \$(systemctl show -p NRestarts --value pilotfish.service) -gt $restarts ] && systemctl is-active pilotfish.service"
check "it was the watchdog" holds 'journalctl -u pilotfish --no-pager | grep -qi watchdog'
check "it is attached after the watchdog" wait_for 60 '[ "$(/srv/test/attached)" = 2 ]'
request 20
check "it counts after the watchdog" grows_to 20

# A stop and a start, then an upgrade: nothing that was counted is lost, nothing is counted twice.
before=$(counted)
systemctl restart pilotfish.service
check "it is attached after a restart" wait_for 60 '[ "$(/srv/test/attached)" = 2 ]'
check "a restart keeps the counters" grows_to "$before"
check "a restart counts nothing twice" [ "$(counted)" = "$before" ]
check "one program a direction" [ "$(filters web)" = 2 ]
echo '# kept' >>/etc/pilotfish/agent.toml
pid=$(show MainPID)
check "apt upgrades" apt-get install -y ./second.deb
check "the upgrade runs the new program" holds "[ \$(systemctl show -p MainPID --value pilotfish.service) != $pid ] && systemctl is-active pilotfish.service"
check "the configuration is kept" grep -q '# kept' /etc/pilotfish/agent.toml
check "it is attached after the upgrade" wait_for 60 '[ "$(/srv/test/attached)" = 2 ]'
check "the upgrade keeps the counters" grows_to "$before"
request 20
check "it counts after the upgrade" grows_to $((before + 20))
check "the upgrade counts nothing twice" [ "$(counted)" = $((before + 20)) ]
say "info lost exchanges: $(lost)"
journalctl -u pilotfish -o short-monotonic --no-pager | grep -E 'stopping|ready|Stopp|Start|attached' | tail -n 12 | sed 's/^/vm-story: info /'

# State that cannot be written stops nothing.
systemctl stop pilotfish.service
mount -t tmpfs -o ro,size=4k none /var/lib/pilotfish
systemctl start pilotfish.service
check "it runs with a state directory that is read-only" wait_for 60 '[ "$(/srv/test/attached)" = 2 ]'
systemctl stop pilotfish.service
umount /var/lib/pilotfish
printf '[admin]\nlisten = "nowhere"\n' >/etc/pilotfish/agent.toml
check "a start with a faulty file fails" holds '! systemctl start pilotfish.service'
check "it is not tried again" [ "$(show NRestarts) $(show ActiveState)" = "0 failed" ]
rm /etc/pilotfish/agent.toml
systemctl reset-failed pilotfish.service
check "it starts without a file" systemctl start pilotfish.service
check "attached without a file" wait_for 60 '[ "$(/srv/test/attached)" = 2 ]'

# And away.
check "apt removes it" apt-get remove -y pilotfish
check "the unit is gone" holds '! systemctl is-active pilotfish.service'
check "no program is left at the server" [ "$(filters web)" = 0 ]
check "no program is left at the client" [ "$(filters client)" = 0 ]
check "no process, map or link is left" holds '! grep -lE "bpf|prog_id" /proc/[0-9]*/fdinfo/* 2>/dev/null | xargs -r grep -l pilotfish; ! pidof pilotfish'
check "no pin is left" holds '[ -z "$(ls /sys/fs/bpf 2>/dev/null)" ]'
check "the containers live" holds 'ctr -n k8s.io tasks list | grep -c RUNNING | grep -qx 2'
check "apt purges it" apt-get purge -y pilotfish
find / -xdev -iname '*pilotfish*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/sys/*' >/tmp/left
check "no file is left" holds '[ ! -s /tmp/left ] || { cat /tmp/left; exit 1; }'
check "no account is left" holds '! getent passwd pilotfish && ! getent group pilotfish'
say "info check: $(tr '\n' '|' </srv/test/check.out)"
