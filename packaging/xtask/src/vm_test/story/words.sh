# What the scenes are told with. A minute of this guest is some seconds of a node: every wait has a
# condition and a generous bound.
B=/bin/busybox
UNIT=pilotfish.service

say() { echo "vm-story: $*"; }
check() { # NAME COMMAND...
    checked=$1
    shift
    if "$@" >/tmp/out 2>&1; then say "ok $checked"; else say "FAILED $checked: $(tail -n 3 /tmp/out | tr '\n' '|')"; fi
}
not() { ! "$@"; }
wait_for() { # SECONDS COMMAND...
    left=$(($1 * 2))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "still not: $*"; return 1; }
        $B sleep 0.5
    done
}

# The unit, as systemd sees it.
show() { systemctl show -p "$1" --value "$UNIT"; }
is_active() { systemctl is-active --quiet "$UNIT"; }
says() { show StatusText | grep -q "$1"; }
# A socket that is waited for is in STATUS, too.
has_containerd() { says "containerd [^,:]*$1"; } # SOCKET
main_pid() { show MainPID; }
restarted() { [ "$(show NRestarts)" -gt "$1" ] && is_active; } # SINCE
fresh_start() { systemctl reset-failed "$UNIT" 2>/dev/null; systemctl start "$UNIT"; }
# Without a limit of starts a minute in the way, which a story of a dozen restarts would run into.
fresh_restart() { systemctl reset-failed "$UNIT" 2>/dev/null; systemctl restart "$UNIT"; }
drop_in() { # LINE...: into [Service], until `no_drop_in`
    mkdir -p /run/systemd/system/$UNIT.d
    { echo '[Service]'; printf '%s\n' "$@"; } >/run/systemd/system/$UNIT.d/story.conf
    systemctl daemon-reload
}
no_drop_in() { rm -r /run/systemd/system/$UNIT.d; systemctl daemon-reload; }

# The journal since a moment that a scene marks.
mark() { since=$(journalctl -q -n 1 -o cat --show-cursor | sed -n 's/^-- cursor: //p'); }
journal() { journalctl -q -u "$UNIT" --after-cursor="$since" --no-pager "$@"; }
journal_says() { journal -o cat | grep -qi -- "$1"; }
journal_has() { journal -o verbose | grep -i ' F_' >/tmp/fields; grep -i -- "$1" /tmp/fields || { tail -n 5 /tmp/fields; return 1; }; } # FIELD

# What the agent counted.
ADMIN=127.0.0.1:9464
metrics() { $B wget -q -O - http://$ADMIN/metrics; }
sum() { $B awk -v name="$1" 'index($0, name) == 1 { sum += $2 } END { print sum + 0 }'; } # START-OF-LINE
# Requests that the server's end saw. Empty while nobody answers.
counted() {
    scraped=$(metrics) || return 1
    echo "$scraped" | grep 'reporter="server"' | grep 'server_workload="web-0"' | sum 'http_server_request_duration_seconds_count{'
}
lost() { metrics | sum 'pilotfish_exchanges_lost_total{'; }
is_attached() { [ "$(metrics | sum 'pilotfish_netns{state="attached"}')" = 2 ]; }
reaches() { now=$(counted) && [ "$now" -ge "$1" ]; }
grows_to() { wait_for 60 reaches "$1" || { echo "counted $(counted) of $1"; return 1; }; }

# Two pods on a bridge: a server, and a client that asks it.
task_pid() { ctr -n k8s.io tasks list | $B awk -v name="$1" '$1 == name { print $2 }'; }
container() { # NAME ADDRESS COMMAND...
    name=$1 address=$2
    shift 2
    mkdir -p "/srv/$name/bin" "/srv/$name/www" "/srv/$name/proc"
    cp $B "/srv/$name/bin/"
    echo hello >"/srv/$name/www/index.html"
    ctr -n k8s.io run -d --rootfs --label io.cri-containerd.kind=sandbox --label io.kubernetes.pod.namespace=shop \
        --label "io.kubernetes.pod.name=$name-0" --label "io.kubernetes.pod.uid=uid-$name" "/srv/$name" "$name" "$@" || return 1
    task=$(task_pid "$name")
    ip link add "host-$name" type veth peer name eth0 netns "$task" || return 1
    ip link set "host-$name" master bridge up
    nsenter -t "$task" -n ip addr add "$address/24" dev eth0
    nsenter -t "$task" -n ip link set eth0 up
    nsenter -t "$task" -n ip link set lo up
}
asked=0
request() { # COUNT: one after the other
    asked=$((asked + 1))
    ctr -n k8s.io tasks exec --exec-id "ask$asked" client /bin/busybox sh -c \
        "for i in \$(/bin/busybox seq $1); do /bin/busybox wget -q -O /dev/null http://10.99.0.2/ || exit 1; done"
}
# A client that asks without a pause and writes down how often it was answered, until it is told to stop.
load_begins() {
    rm -f /srv/client/stop
    echo 0 >/srv/client/sent
    asked=$((asked + 1))
    ctr -n k8s.io tasks exec -d --exec-id "ask$asked" client /bin/busybox sh -c \
        'B=/bin/busybox; i=0; while [ ! -e /stop ]; do $B wget -q -O /dev/null http://10.99.0.2/ && i=$((i + 1)) && echo $i >/sent; done; $B touch /over'
}
load_reaches() { [ "$(cat /srv/client/sent)" -ge "$1" ]; }
load_ends() { touch /srv/client/stop; wait_for 60 test -e /srv/client/over; rm -f /srv/client/over; sent=$(cat /srv/client/sent); }

# What the kernel holds of the agent's.
filters() { # CONTAINER: programs at its interface, both directions
    task=$(task_pid "$1")
    { nsenter -t "$task" -n tc filter show dev eth0 ingress; nsenter -t "$task" -n tc filter show dev eth0 egress; } | grep -c pilotfish
}
links() { bpftool link show 2>/dev/null | grep -c -i tcx; }
# One program a direction at each container, however it is attached.
is_attached_once() { [ "$(filters web) $(filters client)" = "2 2" ] || { [ "$(filters web) $(filters client)" = "0 0" ] && [ "$(links)" = 4 ]; }; }
kernel_objects() { bpftool prog show | grep -c 'name pilotfish'; bpftool map show | grep -c 'pilotfish'; bpftool link show | grep -c -i 'tcx\|cgroup'; }
