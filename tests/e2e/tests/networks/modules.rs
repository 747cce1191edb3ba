//! Links and balancers that not every kernel has modules for, as [`crate::links`] has the others:
//! Debian's 6.12 has them all.

use crate::check;
use crate::links::{Scene, scene};
use anyhow::Result;

/// `ipvlan MODE`: both pods on one interface of the node. `ipvlan_far MODE`: the client there, the
/// server behind the other node, to which that interface leads.
///
/// `bonded MODE`: two cables between the pods, one interface over them. `tagged INTERFACE`: a VLAN of
/// the pods' own on it.
///
/// `paired POD ADDRESS NAME`: a netkit pair to the node, without neighbours, as the kernel makes it
/// when it is asked for nothing. `tunnelled KIND WORDS`: the node's kernel wraps up what its pod
/// sends to the other node's.
const WORDS: &str = r#"
ends() {
  ip -n $C addr add 10.80.$r.2/24 dev $1; ip -n $S addr add 10.80.$r.3/24 dev $1
  ip -n $C link set $1 up; ip -n $S link set $1 up
}
cable() {
  ip -n $N link add mv$r type veth peer name mw$r
  ip -n $N link set mv$r up; ip -n $N link set mw$r up
}
ipvlan() {
  cable
  for p in $C $S; do
    ip -n $p link del eth0
    ip -n $N link add link mv$r name mx$r type ipvlan mode $1
    ip -n $N link set mx$r netns $p name eth0
  done
  ends eth0
}
ipvlan_far() {
  behind $S 10.81.$r.3 ps
  ip -n $N link add mv$r type veth peer name mv$r netns $O
  ip -n $N addr add 10.83.$r.1/30 dev mv$r; ip -n $N link set mv$r up
  ip -n $O addr add 10.83.$r.2/30 dev mv$r; ip -n $O link set mv$r up
  ip -n $N route add 10.81.$r.3/32 via 10.83.$r.2
  ip -n $O route add 10.80.$r.2/32 via 10.83.$r.1
  ip -n $C link del eth0
  ip -n $N link add link mv$r name mx$r type ipvlan mode $1
  ip -n $N link set mx$r netns $C name eth0
  ip -n $C addr add 10.80.$r.2/32 dev eth0; ip -n $C link set eth0 up
  ip -n $C route add default dev eth0
}
bonded() {
  for p in $C $S; do ip -n $p link del eth0; done
  for i in 0 1; do ip -n $C link add port$i type veth peer name port$i netns $S; done
  for p in $C $S; do
    ip -n $p link add bond0 type bond mode $1 miimon 100
    for i in 0 1; do ip -n $p link set port$i master bond0; done
    ip -n $p link set bond0 up
  done
}
tagged() {
  for p in $C $S; do ip -n $p link add link $1 name $1.7 type vlan id 7; done
  ends $1.7
}
paired() {
  ip -n $1 link del eth0
  ip -n $1 link add $3$r type netkit
  ip -n $1 link set nk0 name eth0
  ip -n $1 link set $3$r netns $N
  ip -n $N link set $3$r up
  ip -n $N route add $2/32 dev $3$r
  ip -n $1 addr add $2/32 dev eth0
  ip -n $1 link set eth0 up
  ip -n $1 route add default dev eth0
  forwards $N
}
tunnelled() {
  routed $C 10.80.$r.2 pc; behind $S 10.81.$r.3 ps
  ip -n $N link add tu$r type $1 remote $o $2; ip -n $O link add tu$r type $1 remote 100.71.0.1 $2
  ip -n $N addr add 10.82.$r.1/30 dev tu$r; ip -n $N link set tu$r up
  ip -n $O addr add 10.82.$r.2/30 dev tu$r; ip -n $O link set tu$r up
  ip -n $N route add 10.81.$r.3/32 via 10.82.$r.2 dev tu$r; ip -n $O route add 10.80.$r.2/32 via 10.82.$r.1 dev tu$r
}
ipvs() {
  both_routed
  ip -n $N link add ki$r type dummy
  ip -n $N addr add 10.96.$r.1/32 dev ki$r
  nsenter --net=/run/netns/$N ipvsadm -A -t 10.96.$r.1:80 -s rr
  nsenter --net=/run/netns/$N ipvsadm -a -t 10.96.$r.1:80 -r 10.80.$r.3:8080 -m
}
"#;

const fn with_words(scene: Scene) -> Scene {
    Scene { words: WORDS, ..scene }
}

const IPVLAN: &[Scene] = &[
    with_words(scene("ipvlan-l2", "10.80.$r.3:8080", "ipvlan l2")),
    with_words(scene("ipvlan-l3", "10.80.$r.3:8080", "ipvlan l3")),
    with_words(scene("ipvlan-l3-far", "10.81.$r.3:8080", "ipvlan_far l3")),
    with_words(scene("ipvlan-l3s-far", "10.81.$r.3:8080", "ipvlan_far l3s")),
];

#[test]
fn ipvlan_of_layer_2_and_3() -> Result<()> {
    check(IPVLAN)
}

const STACKED: &[Scene] = &[
    with_words(scene("vlan", "10.80.$r.3:8080", "tagged eth0")),
    // As Multus' plugin does: made on an interface of the node's, and moved.
    with_words(scene(
        "vlan-of-node",
        "10.80.$r.3:8080",
        "cable
         for p in $C $S; do ip -n $p link del eth0; done
         ip -n $N link add link mv$r name mx$r type vlan id 7; ip -n $N link set mx$r netns $C name eth0
         ip -n $N link add link mw$r name my$r type vlan id 7; ip -n $N link set my$r netns $S name eth0
         ends eth0",
    )),
    // By turns over either port: a connection's packets pass both.
    with_words(scene("bond", "10.80.$r.3:8080", "bonded balance-rr; ends bond0")),
    with_words(scene("vlan-on-bond", "10.80.$r.3:8080", "bonded active-backup; tagged bond0")),
];

#[test]
fn vlan_and_bond() -> Result<()> {
    check(STACKED)
}

const NETKIT: &[Scene] =
    &[with_words(scene("netkit", "10.80.$r.3:8080", "paired $C 10.80.$r.2 pc; paired $S 10.80.$r.3 ps"))];

#[test]
fn netkit() -> Result<()> {
    check(NETKIT)
}

const TUNNELS: &[Scene] = &[
    with_words(scene("geneve-nodes", "10.81.$r.3:8080", "tunnelled geneve 'id 42'")),
    // As Calico has it.
    with_words(scene("ipip-nodes", "10.81.$r.3:8080", "tunnelled ipip ''")),
    Scene {
        wrapped: true,
        ..with_words(scene(
            "geneve-in-pods",
            "10.80.$r.3:8080",
            "ip -n $C link add ge0 type geneve id 7 remote $s; ip -n $S link add ge0 type geneve id 7 remote $c
             ends ge0",
        ))
    },
];

#[test]
fn geneve_and_ipip() -> Result<()> {
    check(TUNNELS)
}

const IPVS: &[Scene] = &[
    // As kube-proxy does in its mode ipvs: the Service's address is on an interface of the node's that
    // is never switched on, and is not the node's for that.
    Scene { client_end: ["client", "private"], ..with_words(scene("service-ipvs", "10.96.$r.1:80", "ipvs")) },
    Scene {
        client_end: ["client", "private"],
        server_end: Some(["NODE", "server"]),
        ..with_words(scene(
            "service-ipvs-masquerade",
            "10.96.$r.1:80",
            "ipvs
             nsenter --net=/run/netns/$N sh -c 'echo 1 >/proc/sys/net/ipv4/vs/conntrack'
             nat -A POSTROUTING -d 10.80.$r.3/32 -j MASQUERADE --random-fully",
        ))
    },
];

#[test]
fn a_service_of_ipvs() -> Result<()> {
    check(IPVS)
}
