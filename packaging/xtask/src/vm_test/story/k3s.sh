# k3s as it lies on a node: containerd 2.x is its child, at its own places, and ends with it while
# the pods stay. The deb is there before k3s, and after it. What k3s brings for the traffic, by hand:
# flannel's VXLAN to another node, klipper-lb behind a port of the node, and an ingress.
. ./nodes.sh
k3s=/var/lib/rancher/k3s
CTR="$k3s/data/current/bin/ctr -a /run/k3s/containerd/containerd.sock -n k8s.io"
node_has_k3s() {
    systemctl disable -q --now containerd
    mkdir -p $k3s/data/current/bin $k3s/agent/etc/containerd $k3s/agent/containerd /etc/rancher/k3s
    cp $BIN/* $k3s/data/current/bin/
    cat >$k3s/agent/etc/containerd/config.toml <<END
version = 3
root = "$k3s/agent/containerd"
state = "/run/k3s/containerd"
[grpc]
address = "/run/k3s/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = true
END
    cat >/etc/rancher/k3s/k3s.yaml <<'END'
apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}]
users: [{name: default, user: {token: t}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
current-context: default
END
    chmod 600 /etc/rancher/k3s/k3s.yaml
    cat >/usr/local/bin/k3s <<END
#!/bin/sh
export PATH=$k3s/data/current/bin:\$PATH
setpriv --pdeathsig KILL containerd -c $k3s/agent/etc/containerd/config.toml >>$k3s/agent/containerd/containerd.log 2>&1 &
until $CTR version >/dev/null 2>&1; do sleep 0.5; done
systemd-notify --ready
wait
END
    chmod 755 /usr/local/bin/k3s
    cat >/etc/systemd/system/k3s.service <<'END'
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Type=notify
NotifyAccess=all
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=1s
ExecStart=/usr/local/bin/k3s server
[Install]
WantedBy=multi-user.target
END
    systemctl daemon-reload
}
# Two nodes on a wire, and somebody outside; a network of pods on each.
networks() {
    modprobe br_netfilter && modprobe vxlan || return 1
    echo 1 >/proc/sys/net/ipv4/ip_forward
    ip link add lan type bridge && ip addr add 172.31.0.1/24 dev lan && ip link set lan up
    for there in node2:2 outside:9; do
        ip netns add ${there%:*}
        ip link add lan-${there#*:} type veth peer name eth0 netns ${there%:*}
        ip link set lan-${there#*:} master lan up
        ip -n ${there%:*} addr add 172.31.0.${there#*:}/24 dev eth0
        ip -n ${there%:*} link set eth0 up
    done
    ip link add cni0 mtu 1450 type bridge && ip addr add 10.42.0.1/24 dev cni0 && ip link set cni0 up
    flannel 1 0 1 2 && flannel 2 1 0 1 "-n node2"
    ip netns exec node2 sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    ip netns add far
    ip link add toward netns node2 mtu 1450 type veth peer name eth0 netns far
    ip -n node2 addr add 10.42.1.1/24 dev toward && ip -n node2 link set toward up
    ip -n far addr add 10.42.1.2/24 dev eth0 && ip -n far link set eth0 up && ip -n far route add default via 10.42.1.1
    # kube-proxy: the Service of the ingress. portmap: the port of klipper-lb's pod.
    iptables -w -t nat -A PREROUTING -d 10.43.0.10/32 -p tcp --dport 80 -j DNAT --to-destination 10.42.0.10:8000
    iptables -w -t nat -A PREROUTING -d 172.31.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.42.0.11:80
}
flannel() { # NODE ITS-PODS OTHERS-PODS OTHER-NODE [WHERE]: nobody learns, each entry is written
    # shellcheck disable=SC2086
    {
        ip $5 link add flannel.1 mtu 1450 address 02:42:0a:2a:00:0$1 type vxlan id 1 local 172.31.0.$1 dstport 8472 nolearning
        ip $5 addr add 10.42.$2.0/32 dev flannel.1
        ip $5 link set flannel.1 up
        ip $5 neigh add 10.42.$3.0 lladdr 02:42:0a:2a:00:0$4 dev flannel.1 nud permanent
        bridge $5 fdb append 02:42:0a:2a:00:0$4 dev flannel.1 dst 172.31.0.$4
        ip $5 route add 10.42.$3.0/24 via 10.42.$3.0 dev flannel.1 onlink
    }
}
plug() { # NAME ADDRESS TASK
    ip link add "veth-$1" mtu 1450 type veth peer name eth0 mtu 1450 netns "$3" || return 1
    ip link set "veth-$1" master cni0 up
    nsenter -t "$3" -n sh -c "ip addr add $2/24 dev eth0; ip link set eth0 up; ip link set lo up; ip route add default via 10.42.0.1"
}
# As its entry script does.
klipper() { # TASK
    nsenter -t "$1" -n sh -c 'iptables -w -t nat -I PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.43.0.10:80
        iptables -w -t nat -I POSTROUTING -d 10.43.0.10/32 -p tcp -j MASQUERADE' || return 1
    # In its namespace, where /proc/sys/net is the process's own.
    nsenter -t "$1" -n sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}
# All the traffic of a load of RSHOPPER and ROUTSIDE rounds: each leg once at each of its ends.
legs_are_exact() { # WHEN ROUNDS-OF-SHOPPER ROUNDS-OF-OUTSIDE
    check "$1: each request was answered" none_failed $PODS/shopper
    check "$1: also those from outside" none_failed /srv/outside
    check "$1: the client asks a Service" exactly $(($2 * 2)) client shopper-0 private
    check "$1: the ingress has the client" exactly $(($2 * 2)) server shopper-0 traefik-0
    check "$1: klipper-lb is asked" exactly $(($3 * 2)) server private svclb-0
    check "$1: klipper-lb asks the Service for who is outside" exactly $(($3 * 2)) client svclb-0 private
    check "$1: the ingress has klipper-lb" exactly $(($3 * 2)) server svclb-0 traefik-0
    check "$1: the backend of this node, at both ends" both_ends $(($2 + $3)) traefik-0 cart-0
    check "$1: the backend of the other node, over VXLAN" exactly $(($2 + $3)) client traefik-0 private
    check "$1: and nothing else" nothing_beside $((($2 + $3) * 4))
    check "$1: nothing is lost" nothing_lost
}
SERVICE="http://10.43.0.10/near http://10.43.0.10/far"
DOOR="http://172.31.0.1/near http://172.31.0.1/far"

node_has_k3s
mark
check "k3s: the deb is installed before it" apt-get install -y ./first.deb
check "k3s: the agent waits for a containerd" wait_for 60 says "waiting for containerd"
check "k3s: it starts" systemctl start k3s
check "k3s: its containerd is found" wait_for 60 has_containerd /run/k3s/containerd/containerd.sock
check "k3s: networks are made" networks
ingress traefik near=10.42.0.12 far=10.42.1.2
check "k3s: an ingress runs" pod traefik 10.42.0.10 /usr/sbin/nginx -c /nginx.conf
check "k3s: klipper-lb runs" pod svclb 10.42.0.11 /bin/busybox sleep 100000
check "k3s: klipper-lb passes on" klipper "$(task_of svclb)"
check "k3s: a backend runs" pod cart 10.42.0.12 /bin/busybox httpd -f -p 80 -h /www
check "k3s: a client runs" pod shopper 10.42.0.13 /bin/busybox sleep 100000
check "k3s: a pod on the node's network runs" pod_of_the_node exporter /bin/busybox httpd -f -p 9100 -h /www
mkdir -p /srv/far && echo hello >/srv/far/index.html
check "k3s: a backend runs on the other node" systemd-run -q --unit far ip netns exec far $B httpd -f -p 80 -h /srv/far
check "k3s: four pods are attached" wait_for 60 pods_attached 4
check "k3s: the pod on the node's network, too" wait_for 60 observes exporter-0
check "k3s: check names its containerd" checks 'v\?2\.[0-9.]* on /run/k3s/containerd/containerd.sock'
check "k3s: check names its kubeconfig" checks 'from /etc/rancher/k3s/k3s.yaml'
say "info $(grep containerd /tmp/check | tr '\n' '|')"
pid=$(main_pid)
# shellcheck disable=SC2086
check "k3s: a load begins" pod_asks shopper $SERVICE
# shellcheck disable=SC2086
check "k3s: and one from outside" outside_asks $DOOR
check "k3s: both are answered" goes_on $PODS/shopper
check "k3s: restarted under load" systemctl restart k3s
check "k3s: the pods still talk" goes_on $PODS/shopper
check "k3s: its containerd is found after the restart" wait_for 60 has_containerd /run/k3s/containerd/containerd.sock
check "k3s: stopped under load" systemctl stop k3s
check "k3s: STATUS says that its containerd is gone" wait_for 60 says "waiting for containerd"
check "k3s: the pods talk without it" goes_on $PODS/shopper
check "k3s: four pods stay attached" pods_attached 4
same_agent "k3s: the agent outlives it"
check "k3s: started again" systemctl start k3s
check "k3s: its containerd is found again" wait_for 60 has_containerd /run/k3s/containerd/containerd.sock
child=$($B pidof containerd | $B awk '{ print $1 }')
kill -9 "$child"
not_that_child() { now=$($B pidof containerd) && [ "$now" != "$child" ] && $CTR version; }
check "k3s: its containerd comes back after kill -9" wait_for 60 not_that_child
check "k3s: and is found" wait_for 60 has_containerd /run/k3s/containerd/containerd.sock
check "k3s: the load goes on" goes_on $PODS/shopper
same_agent "k3s: the agent is the same process"
asking_ends $PODS/shopper
asking_ends /srv/outside
inside=$(rounds $PODS/shopper) outside=$(rounds /srv/outside)
say "info k3s, the deb first: $inside rounds of the client, $outside from outside"
legs_are_exact "k3s, the deb first" "$inside" "$outside"
asked=$((asked + 1))
twenty='for i in $(/bin/busybox seq 20); do /bin/busybox wget -q -O /dev/null http://10.42.0.1:9100/ || exit 1; done'
check "k3s: the pod on the node's network is asked" $CTR tasks exec --exec-id "ask$asked" shopper /bin/busybox sh -c "$twenty"
check "k3s: and has its name" exactly 20 server shopper-0 exporter-0
say "info k3s: units and cgroups: $(pilotfish status -o json | tr -d ' \n' | grep -o '"workload":"[^"]*"' | sort -u | tr '\n' ' ' | tr -d '"')"

check "k3s: apt purges the deb beside it" apt-get purge -y pilotfish
check "k3s: the deb is installed after it" apt-get install -y ./first.deb
check "k3s: all is attached" wait_for 60 pods_attached 4
# shellcheck disable=SC2086
pod_asks shopper $SERVICE
# shellcheck disable=SC2086
outside_asks $DOOR
goes_on $PODS/shopper
check "k3s, the deb second: restarted under load" systemctl restart k3s
check "k3s, the deb second: the pods still talk" goes_on $PODS/shopper
check "k3s, the deb second: found after the restart" wait_for 60 has_containerd /run/k3s/containerd/containerd.sock
asking_ends $PODS/shopper
asking_ends /srv/outside
legs_are_exact "k3s, the deb second" "$(rounds $PODS/shopper)" "$(rounds /srv/outside)"

# Clients that never pause leave an agent of this guest behind: it is slow, and at work. What
# it counts then is no matter of this scene.
pid=$(main_pid)
touch $PODS/shopper/hurry /srv/outside/hurry
# shellcheck disable=SC2086
pod_asks shopper $SERVICE
# shellcheck disable=SC2086
outside_asks $DOOR
for time in first second third; do
    check "k3s, no pauses: stopped for the $time time" systemctl stop k3s
    check "k3s, no pauses: the pods talk without it" goes_on $PODS/shopper 10
    check "k3s, no pauses: started again" systemctl start k3s
    check "k3s, no pauses: its containerd is found" wait_for 120 has_containerd /run/k3s/containerd/containerd.sock
    same_agent "k3s, no pauses: the agent outlives it"
done
asking_ends $PODS/shopper
asking_ends /srv/outside
same_agent "k3s, no pauses: the agent is the same process"
check "k3s: apt purges the deb" apt-get purge -y pilotfish

# And away, for what comes after.
for name in traefik svclb cart shopper exporter; do $CTR tasks rm -f $name >/dev/null 2>&1; done
systemctl stop far
systemctl disable -q --now k3s
rm -r /run/k3s /etc/rancher /etc/systemd/system/k3s.service
systemctl daemon-reload
iptables -w -t nat -F PREROUTING
for name in far node2 outside; do ip netns del $name; done
for name in lan cni0 flannel.1; do ip link del $name; done
