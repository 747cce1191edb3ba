# Words of the scenes that are whole nodes of a distribution: pods of its containerd in cgroups as the
# kubelet names them, and requests that are counted one by one. A scene says what CTR is, and has
# `plug NAME ADDRESS TASK` for a pod's network.
BIN=/srv/test/containerd
PODS=/srv/pods
run_pod() { # NAME COMMAND...; OPTIONS are more words of `ctr run`
    name=$1
    shift
    mkdir -p "$PODS/$name/bin" "$PODS/$name/www" "$PODS/$name/etc"
    cp $B "$PODS/$name/bin/"
    echo hello >"$PODS/$name/www/index.html"
    # shellcheck disable=SC2086
    $CTR run -d --rootfs $OPTIONS --runc-systemd-cgroup --cgroup "kubepods-besteffort-pod_$name.slice:cri-containerd:$name" \
        --label io.cri-containerd.kind=sandbox --label io.kubernetes.pod.namespace=shop \
        --label "io.kubernetes.pod.name=$name-0" --label "io.kubernetes.pod.uid=uid-$name" "$PODS/$name" "$name" "$@"
}
pod() { # NAME ADDRESS COMMAND...
    address=$2 named=$1
    shift 2
    OPTIONS='' run_pod "$named" "$@" && plug "$named" "$address" "$(task_of "$named")"
}
# As a pod with hostNetwork has it.
pod_of_the_node() { # NAME COMMAND...
    OPTIONS=--net-host run_pod "$@"
}
task_of() { $CTR tasks list | $B awk -v name="$1" '$1 == name { print $2 }'; }
# What nginx needs, and how it passes on: each path to a backend.
ingress() { # NAME, then PATH=HOST of each
    root=$PODS/$1
    mkdir -p "$root/etc" "$root/tmp" "$root/var/log/nginx" "$root/var/lib/nginx"
    for file in /usr/sbin/nginx $(ldd /usr/sbin/nginx | $B grep -o '/[^ ]*'); do cp -L --parents "$file" "$root/"; done
    printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    shift
    {
        echo 'daemon off; master_process off; pid /tmp/pid; error_log stderr; events { }'
        echo 'http { access_log off; server { listen 8000;'
        for rule in "$@"; do echo "location = /${rule%%=*} { proxy_pass http://${rule#*=}/; }"; done
        echo '} }'
    } >"$root/nginx.conf"
}

# A client that asks for each URL in turn, round after round, until it is told to stop; without a
# pause where it is to hurry.
ROUNDS='B=/bin/busybox; i=0; while [ ! -e $0/stop ]; do for url in "$@"; do $B wget -q -O /dev/null $url || echo $url >>$0/failed; done; i=$((i + 1)); echo $i >$0/rounds; [ -e $0/hurry ] || $B sleep 0.2; done; $B touch $0/over'
fresh() { mkdir -p "$1" && rm -f "$1/stop" "$1/over" "$1/failed" && echo 0 >"$1/rounds"; }
pod_asks() { # NAME URL...
    asking=$1
    shift
    fresh "$PODS/$asking"
    asked=$((asked + 1))
    $CTR tasks exec -d --exec-id "ask$asked" "$asking" /bin/busybox sh -c "$ROUNDS" '' "$@"
}
# From a network namespace that is no container's, as from another machine. It begins there: a
# service that goes there later is the node's to whoever looks before that.
outside_asks() { # URL...
    fresh /srv/outside
    systemd-run -q --collect --unit outside -p NetworkNamespacePath=/run/netns/outside $B sh -c "$ROUNDS" /srv/outside "$@"
}
rounds() { cat "$1/rounds"; }
rounds_reach() { [ "$(rounds "$1")" -ge "$2" ]; }
goes_on() { seen=$(rounds "$1") && wait_for 120 rounds_reach "$1" $((seen + ${2:-3})); }
asking_ends() { touch "$1/stop"; wait_for 60 test -e "$1/over"; }
none_failed() { [ ! -e "$1/failed" ] || { sort "$1/failed" | uniq -c; return 1; }; }

# Exchanges of an edge that one of its ends has counted.
counted_of() { # REPORTER CLIENT SERVER
    scraped=$(metrics) || return 1
    echo "$scraped" | grep "reporter=\"$1\"" | grep "client_workload=\"$2\"" | grep "server_workload=\"$3\"" |
        sum "http_$1_request_duration_seconds_count{"
}
is_counted() { [ "$(counted_of "$2" "$3" "$4")" = "$1" ]; }
exactly() { # COUNT REPORTER CLIENT SERVER
    wait_for 60 is_counted "$@" || { echo "$(counted_of "$2" "$3" "$4") of $1; $(metrics | grep '^http_[a-z]*_request_duration_seconds_count' | $B cut -c 1-400 | tr '\n' '|')"; return 1; }
}
both_ends() { exactly "$1" client "$2" "$3" && exactly "$1" server "$2" "$3"; } # COUNT CLIENT SERVER
all_counted() { metrics | sum 'http_client_request_duration_seconds_count{'; }
all_are() { [ "$(all_counted)" = "$1" ]; }
nothing_beside() { # COUNT: of what clients' ends have counted
    wait_for 60 all_are "$1" || { echo "$(all_counted) of $1; $(metrics | grep '^http_client_request_duration_seconds_count' | $B cut -c 40-300 | tr '\n' '|')"; return 1; }
}
nothing_lost() { [ "$(lost)" = 0 ] || { metrics | grep 'lost_total' | grep -v ' 0$'; return 1; }; }
pods_attached() { [ "$(metrics | sum 'pilotfish_netns{state="attached"}')" = "$1" ]; }
observes() { pilotfish status -o json | tr -d ' \n' | tr '}' '\n' | grep "\"$1\"" | grep -q '"attached"'; } # SERVICE OR POD, by its cgroup
checks() { pilotfish check >/tmp/check; grep -q -- "$1" /tmp/check || { cat /tmp/check; return 1; }; }
# Since a scene took its `pid`. What it said at its end is shown.
is_same_agent() { [ "$(main_pid)" = "$pid" ] && [ "$(show NRestarts)" = 0 ]; }
same_agent() {
    check "$1" is_same_agent
    is_same_agent || journal -o short-monotonic | grep ' systemd\[' | tail -n 20 | $B cut -c 1-300 | sed 's/^/vm-story: info /'
}
