//! How the links of two pods are made, each way once.

/// Two pods, and what connects them. The scripts run in a shell with `-eu`, before any container of
/// the pods, as a CNI plugin does.
#[derive(Debug)]
pub struct Scene {
    pub name: &'static str,
    /// `$C`, `$S`, `$O`, `$N`: the namespaces of the client, of the server, of another node and of
    /// the node. `$c`, `$s`, `$o`: the addresses of the first three on the node's bridge; `$r` is a
    /// number of the scene, for networks of its own.
    pub make: &'static str,
    /// Functions of the script beside those that all have.
    pub words: &'static str,
    /// Where the client sends: a host of the scripts' words, and a port.
    pub target: &'static str,
    /// Options of the load beside its count.
    pub load: &'static [&'static str],
    /// What the ends are called at the client's and at the server's end; `None`: nobody sees it.
    pub client_end: [&'static str; 2],
    pub server_end: Option<[&'static str; 2]>,
    /// Whether the load is in the server's pod.
    pub asks_itself: bool,
    /// Whether the pods themselves send datagrams that wrap the exchanges up.
    pub wrapped: bool,
    /// A tunnel between the pods in programs, with an interface `tun0` of type tun at either end.
    pub tunnel: bool,
}

const PODS: [&str; 2] = ["client", "server"];

pub const fn scene(name: &'static str, target: &'static str, make: &'static str) -> Scene {
    Scene {
        name,
        make,
        words: "",
        target,
        load: &[],
        client_end: PODS,
        server_end: Some(PODS),
        asks_itself: false,
        wrapped: false,
        tunnel: false,
    }
}

/// Functions of all scripts. `routed POD ADDRESS`: as CNI's ptp plugin does, one veth to the node and
/// nothing on the bridge. `forwards NETNS`: it passes packets on. `behind POD ADDRESS`: the same on
/// the other node.
pub const WORDS: &str = r#"
forwards() {
  nsenter --net=/run/netns/$1 sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
    for i in all default; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/$i/send_redirects; done'
}
wired() {
  ip -n $1 link del eth0
  ip -n $3 link add $4$r type veth peer name eth0 netns $1
  ip -n $3 addr add 10.80.$r.1/32 dev $4$r
  ip -n $3 link set $4$r up
  ip -n $3 route add $2/32 dev $4$r
  ip -n $1 addr add $2/32 dev eth0
  ip -n $1 link set eth0 up
  ip -n $1 route add 10.80.$r.1 dev eth0 scope link
  ip -n $1 route add default via 10.80.$r.1
  forwards $3
}
routed() { wired $1 $2 $N $3; }
behind() { wired $1 $2 $O $3; }
both_routed() { routed $C 10.80.$r.2 pc; routed $S 10.80.$r.3 ps; }
nat() { nsenter --net=/run/netns/$N iptables -w -t nat "$@"; }
"#;

pub const SCENES: &[Scene] = &[
    scene("bridge", "$s:8080", ""),
    scene("ptp", "10.80.$r.3:8080", "both_routed"),
    scene(
        "macvlan",
        "10.80.$r.3:8080",
        "ip -n $N link add mv$r type veth peer name mw$r; ip -n $N link set mv$r up; ip -n $N link set mw$r up
         for p in $C $S; do
           ip -n $p link del eth0
           ip -n $N link add link mv$r name mx$r type macvlan mode bridge
           ip -n $N link set mx$r netns $p name eth0
         done
         ip -n $C addr add 10.80.$r.2/24 dev eth0; ip -n $S addr add 10.80.$r.3/24 dev eth0
         ip -n $C link set eth0 up; ip -n $S link set eth0 up",
    ),
    // As flannel has it: the node's kernel wraps up what its pods send to the other node's.
    scene(
        "vxlan-nodes",
        "10.81.$r.3:8080",
        "routed $C 10.80.$r.2 pc; behind $S 10.81.$r.3 ps
         ip -n $N link add vx$r type vxlan id 42 local 100.71.0.1 remote $o dstport 4789
         ip -n $O link add vx$r type vxlan id 42 local $o remote 100.71.0.1 dstport 4789
         ip -n $N addr add 10.82.$r.1/30 dev vx$r; ip -n $N link set vx$r up
         ip -n $O addr add 10.82.$r.2/30 dev vx$r; ip -n $O link set vx$r up
         ip -n $N route add 10.81.$r.3/32 via 10.82.$r.2; ip -n $O route add 10.80.$r.2/32 via 10.82.$r.1",
    ),
    Scene {
        wrapped: true,
        ..scene(
            "vxlan-in-pods",
            "10.80.$r.3:8080",
            "ip -n $C link add vx0 type vxlan id 7 local $c remote $s dstport 4789
             ip -n $S link add vx0 type vxlan id 7 local $s remote $c dstport 4789
             ip -n $C addr add 10.80.$r.2/24 dev vx0; ip -n $S addr add 10.80.$r.3/24 dev vx0
             ip -n $C link set vx0 up; ip -n $S link set vx0 up",
        )
    },
    Scene { wrapped: true, tunnel: true, ..scene("tun", "10.80.$r.3:8080", "") },
    // As Multus does: a second network for some of the traffic.
    scene(
        "second-interface",
        "10.80.$r.3:8080",
        "ip -n $C link add net1 type veth peer name net1 netns $S
         ip -n $C addr add 10.80.$r.2/24 dev net1; ip -n $S addr add 10.80.$r.3/24 dev net1
         ip -n $C link set net1 up; ip -n $S link set net1 up",
    ),
    // Jumbo frames, segments that are cut late and joined early: one packet of up to 64 KiB.
    Scene {
        load: &["--profile", "mixed", "--connections", "4"],
        ..scene(
            "mtu-9000",
            "10.80.$r.3:8080",
            r#"for p in $C $S; do ip -n $p link del eth0; done
               ip -n $C link add eth0 mtu 9000 type veth peer name eth0 mtu 9000 netns $S
               ip -n $C addr add 10.80.$r.2/24 dev eth0; ip -n $S addr add 10.80.$r.3/24 dev eth0
               for p in $C $S; do
                 ip -n $p link set eth0 gso_max_size 65536 up
                 nsenter --net=/run/netns/$p python3 -c '
import array, fcntl, socket, struct
value = array.array("B", struct.pack("II", 0x2c, 1))  # ETHTOOL_SGRO
request = struct.pack("16sP16x", b"eth0", value.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)'
               done"#,
        )
    },
    scene(
        "ipv6-only",
        "[fd00:80:$r::3]:8080",
        "ip -n $C -4 addr flush dev eth0; ip -n $S -4 addr flush dev eth0
         ip -n $C addr add fd00:80:$r::2/64 dev eth0 nodad; ip -n $S addr add fd00:80:$r::3/64 dev eth0 nodad",
    ),
    scene("dual-stack-by-ipv4", "$s:8080", DUAL),
    scene("dual-stack-by-ipv6", "[fd00:80:$r::3]:8080", DUAL),
    // As EKS' VPC CNI does: what a pod sends leaves by the interface that its address belongs to,
    // told by a rule for each pod; what is for elsewhere has the node's first address.
    scene("policy-routing", "10.81.$r.3:8080", EKS),
    Scene {
        server_end: Some(["NODE", "server"]),
        ..scene(
            "policy-routing-snat",
            "10.81.$r.3:8080",
            "eks; nat -A POSTROUTING -s 10.80.$r.2/32 ! -d 10.80.0.0/16 -m addrtype ! --dst-type LOCAL \
                 -j SNAT --to-source 100.71.0.1
             ip -n $N rule add from 10.80.$r.2 lookup main pref 1500",
        )
    },
    // As kube-proxy does in its mode iptables.
    Scene {
        client_end: ["client", "private"],
        ..scene(
            "service-iptables",
            "10.96.$r.1:80",
            "both_routed
             nat -N SVC$r; nat -N SEP$r
             nat -A PREROUTING -d 10.96.$r.1/32 -p tcp --dport 80 -j SVC$r
             nat -A SVC$r -m statistic --mode random --probability 1.0 -j SEP$r
             nat -A SEP$r -p tcp -j DNAT --to-destination 10.80.$r.3:8080",
        )
    },
    // As kube-proxy does in its mode nftables: a map from the Service to what chooses an endpoint.
    Scene {
        client_end: ["client", "private"],
        ..scene(
            "service-nftables",
            "10.96.$r.1:80",
            "both_routed
             nsenter --net=/run/netns/$N nft -f - <<END
table ip kp$r {
  chain sep {
    meta l4proto tcp dnat to 10.80.$r.3:8080
  }
  chain svc {
    numgen random mod 1 vmap { 0 : goto sep }
  }
  map ips {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.$r.1 . tcp . 80 : goto svc }
  }
  chain pre {
    type nat hook prerouting priority -100;
    ip daddr . meta l4proto . th dport vmap @ips
  }
}
END",
        )
    },
    // A pod that asks itself by its Service: out under its own name, in under the node's.
    Scene {
        client_end: ["server", "private"],
        server_end: Some(["NODE", "server"]),
        asks_itself: true,
        ..scene(
            "service-hairpin",
            "10.96.$r.1:80",
            "both_routed
             nat -A PREROUTING -d 10.96.$r.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.80.$r.3:8080
             nat -A POSTROUTING -s 10.80.$r.3/32 -d 10.80.$r.3/32 -j SNAT --to-source 100.71.0.1",
        )
    },
    // A node's port whose traffic may go to another node: the server sees the node.
    Scene {
        client_end: ["client", "NODE"],
        server_end: Some(["NODE", "server"]),
        ..scene(
            "node-port",
            "100.71.0.1:301$r",
            "both_routed
             nat -A PREROUTING -d 100.71.0.1 -p tcp --dport 301$r -j DNAT --to-destination 10.80.$r.3:8080
             nat -A POSTROUTING -d 10.80.$r.3/32 -j MASQUERADE --random-fully",
        )
    },
    // With `externalTrafficPolicy: Local`, and as portmap does for `hostPort`: the server sees who asks.
    Scene {
        client_end: ["client", "NODE"],
        ..scene(
            "node-port-local",
            "100.71.0.1:301$r",
            "both_routed
             nat -A PREROUTING -d 100.71.0.1 -p tcp --dport 301$r -j DNAT --to-destination 10.80.$r.3:8080",
        )
    },
];

const DUAL: &str =
    "ip -n $C addr add fd00:80:$r::2/64 dev eth0 nodad; ip -n $S addr add fd00:80:$r::3/64 dev eth0 nodad";

const EKS: &str = "eks; ip -n $O route add 10.80.$r.2/32 via 10.83.$r.1";

/// The client on the node, with a rule and a second way out for it; the server on the other node.
pub const EKS_WORDS: &str = r#"
eks() {
  routed $C 10.80.$r.2 pc; behind $S 10.81.$r.3 ps
  ip -n $N link add eni$r type veth peer name eni$r netns $O
  ip -n $N addr add 10.83.$r.1/30 dev eni$r; ip -n $N link set eni$r up
  ip -n $O addr add 10.83.$r.2/30 dev eni$r; ip -n $O link set eni$r up
  ip -n $N rule add to 10.80.$r.2 lookup main pref 512
  ip -n $N rule add from 10.80.$r.2 lookup 1$r pref 1536
  ip -n $N route add default via 10.83.$r.2 dev eni$r table 1$r
  ip -n $N route add 10.81.$r.3/32 via $o
}
"#;
