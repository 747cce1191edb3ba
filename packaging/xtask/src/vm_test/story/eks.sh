# A node of EKS as far as a Debian can be one: containerd 2.x as containerd.service at the usual
# places (as Amazon Linux 2023 has it), pods wired by rules and routes of their own as its VPC CNI
# does, and the kubelet's kubeconfig, which runs a program for its token.
. ./nodes.sh
CTR="$BIN/ctr -n k8s.io"
node_of_eks() {
    systemctl stop containerd
    # Whatever Debian's own ran here.
    for task in $($B pidof containerd-shim-runc-v2); do kill -9 "$task"; done
    rm -rf /run/containerd /var/lib/containerd
    cp $BIN/containerd $BIN/containerd-shim-runc-v2 $BIN/ctr /usr/local/bin/
    mkdir -p /etc/containerd /etc/systemd/system/containerd.service.d /var/lib/kubelet
    cat >/etc/containerd/config.toml <<'END'
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = true
END
    printf '[Service]\nExecStart=\nExecStart=/usr/local/bin/containerd\n' >/etc/systemd/system/containerd.service.d/eks.conf
    cat >/var/lib/kubelet/kubeconfig <<'END'
apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}
contexts: [{name: kubelet, context: {cluster: kubernetes, user: kubelet}}]
current-context: kubelet
users:
- name: kubelet
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: aws, args: [eks, get-token, --cluster-name, c, --region, eu-central-1]}
END
    chmod 600 /var/lib/kubelet/kubeconfig
    systemctl daemon-reload
}
plug() { # NAME ADDRESS TASK
    ip link add "eni-$1" address 02:00:00:00:00:01 type veth peer name eth0 netns "$3" || return 1
    ip link set "eni-$1" up
    ip route add "$2/32" dev "eni-$1" scope link
    ip rule add to "$2/32" lookup main pref 512
    nsenter -t "$3" -n sh -c "ip addr add $2/32 dev eth0; ip link set eth0 up; ip link set lo up
        ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1
        ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
}
node_of_eks
ip link add ens5 type dummy && ip addr add 10.0.1.4/24 dev ens5 && ip link set ens5 up
echo 1 >/proc/sys/net/ipv4/ip_forward
# User data runs before the node joins its cluster: the deb is there first.
check "eks: the deb is installed before containerd runs" apt-get install -y ./first.deb
check "eks: the agent waits for a containerd" wait_for 60 says "waiting for containerd"
check "eks: containerd starts" systemctl start containerd
check "eks: it is found" wait_for 60 has_containerd /run/containerd/containerd.sock
check "eks: a backend runs" pod cart 10.0.1.12 /bin/busybox httpd -f -p 80 -h /www
check "eks: a client runs" pod shopper 10.0.1.13 /bin/busybox sleep 100000
check "eks: both are attached" wait_for 60 pods_attached 2
check "eks: check names its containerd" checks 'v\?2\.[0-9.]* on /run/containerd/containerd.sock'
check "eks: a load begins" pod_asks shopper http://10.0.1.12/
check "eks: it is answered" goes_on $PODS/shopper
check "eks: containerd is restarted under load" systemctl restart containerd
check "eks: the pods still talk" goes_on $PODS/shopper
check "eks: it is found after the restart" wait_for 60 has_containerd /run/containerd/containerd.sock
asking_ends $PODS/shopper
once=$(rounds $PODS/shopper)
check "eks: each request was answered" none_failed $PODS/shopper
check "eks: each is counted once at each end" both_ends "$once" shopper-0 cart-0
check "eks: and nothing else" nothing_beside "$once"
check "eks: nothing is lost" nothing_lost
# The kubelet's probes, by the name of its unit.
rm -f /srv/probe
systemd-run -q --unit kubelet $B sh -c "until [ -e /srv/probe ]; do $B sleep 0.5; done; for i in \$($B seq 20); do $B wget -q -O /dev/null http://10.0.1.12/; done; exec $B sleep 1000"
check "eks: the kubelet's unit is observed" wait_for 60 observes kubelet
touch /srv/probe
check "eks: the kubelet's requests have its name, at both ends" both_ends 20 kubelet cart-0
systemctl stop kubelet

printf '[kubernetes]\nkubeconfig = "/var/lib/kubelet/kubeconfig"\n' >/etc/pilotfish/agent.toml
check "eks: the agent starts with the kubelet's kubeconfig" fresh_restart
check "eks: and attaches" wait_for 60 pods_attached 2
check "eks: check says that it runs no program" checks 'runs aws for credentials, which the agent does not'
fresh $PODS/shopper
pod_asks shopper http://10.0.1.12/
goes_on $PODS/shopper
asking_ends $PODS/shopper
check "eks: it counts all the same" both_ends $((once + $(rounds $PODS/shopper))) shopper-0 cart-0
check "eks: apt purges the deb" apt-get purge -y pilotfish
for name in cart shopper; do $CTR tasks rm -f $name >/dev/null 2>&1; done
systemctl stop containerd
rm -r /etc/systemd/system/containerd.service.d/eks.conf
systemctl daemon-reload
ip link del ens5
