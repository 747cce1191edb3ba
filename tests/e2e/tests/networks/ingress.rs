//! What comes from outside, as k3s lets it in: by a port of the node to a pod of klipper-lb, which
//! sends it on to the ingress's Service under its own address; and the ingress asks two backends, one
//! of them on the other node over flannel's VXLAN. Each leg is an edge of its own, and each is exact.

use crate::links::WORDS;
use crate::world::edges;
use anyhow::{Context, Result, ensure};
use e2e::node_agent::NodeAgent;
use e2e::{PATIENCE, alone, run_to_end};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use testbed::{ContainerSpec, Netns, Testbed, built_binary, scene, until};

/// Requests of the client within the cluster, and of the one outside.
const INSIDE: u64 = 60;
const OUTSIDE: u64 = 40;

/// After the words of the links. `$I`, `$L`, `$A`, `$B`, `$C`: the namespaces of the ingress, of
/// klipper-lb, of the backends here and on the other node, and of the client; `$o`: the other node.
/// As flannel has it, nobody learns: each entry of the other node is written.
const MAKE: &str = r#"
flannel() {
  ip -n $1 link add flannel.1 mtu 1450 address 02:42:0a:2a:00:0$3 type vxlan id 1 local $2 dstport 8472 nolearning
  ip -n $1 addr add 10.8$4.$r.0/32 dev flannel.1
  ip -n $1 link set flannel.1 up
  ip -n $1 neigh add 10.8$7.$r.0 lladdr 02:42:0a:2a:00:0$6 dev flannel.1 nud permanent
  bridge -n $1 fdb append 02:42:0a:2a:00:0$6 dev flannel.1 dst $5
  ip -n $1 route add 10.8$7.$r.0/24 via 10.8$7.$r.0 dev flannel.1 onlink
}
routed $I 10.80.$r.2 pi; routed $L 10.80.$r.3 pl; routed $A 10.80.$r.4 pa; routed $C 10.80.$r.5 pc
behind $B 10.81.$r.2 pb
flannel $N 100.71.0.1 1 0 $o 2 1
flannel $O $o 2 1 100.71.0.1 1 0
nat -A PREROUTING -d 10.96.$r.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.80.$r.2:80
nat -A PREROUTING -d 100.71.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.80.$r.3:80
forwards $L
nsenter --net=/run/netns/$L iptables -w -t nat -I PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.96.$r.1:80
nsenter --net=/run/netns/$L iptables -w -t nat -I POSTROUTING -d 10.96.$r.1/32 -p tcp -j MASQUERADE
"#;

/// As a number of a scene, which is no other scene's.
const NUMBER: u8 = 90;

/// Each request to one of the backends by turns, over kept connections.
const NGINX: &str = "daemon off; master_process off; worker_processes 1; pid /tmp/ingress.pid; error_log stderr warn;
events { worker_connections 256; }
http { access_log off; client_body_temp_path /tmp/i-b; proxy_temp_path /tmp/i-p; fastcgi_temp_path /tmp/i-f;
uwsgi_temp_path /tmp/i-u; scgi_temp_path /tmp/i-s;
upstream backends { server 10.80.90.4:8080; server 10.81.90.2:8080; keepalive 8; }
server { listen 80; location / { proxy_pass http://backends; proxy_http_version 1.1; proxy_set_header Connection ''; } } }
";

/// Namespaces of the pods, of the other node and of who is outside.
struct World {
    pods: [Arc<Netns>; 5],
    outside: Arc<Netns>,
    _other: Arc<Netns>,
}

fn world(bed: &mut Testbed) -> Result<World> {
    let mut pods = Vec::new();
    for letter in ["I", "L", "A", "B", "C"] {
        pods.push((letter, bed.new_pod_netns(&format!("in{letter}"))?.0));
    }
    let (other, o) = bed.new_pod_netns("inO")?;
    let (outside, _) = bed.new_pod_netns("outside")?;
    let mut set = format!("N={} O={} o={o} r={NUMBER}\n", bed.node().name(), other.name());
    for (letter, pod) in &pods {
        set += &format!("{letter}={}\n", pod.name());
    }
    let output = Command::new("sh").args(["-euc", &format!("{set}{WORDS}{MAKE}")]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pods: Vec<Arc<Netns>> = pods.into_iter().map(|(_, pod)| pod).collect();
    let pods = pods.try_into().ok().context("five pods")?;
    Ok(World { pods, outside, _other: other })
}

#[test]
fn an_ingress_and_the_balancer_before_it_have_the_edges_of_both_their_sides() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let World { pods: [i, l, a, b, c], outside, _other } = world(&mut bed)?;
    let of = |node: u8, pod: u8| Ipv4Addr::new(10, 80 + node, NUMBER, pod);
    for (name, netns, address) in [("near", a, of(0, 4)), ("far", b, of(1, 2))] {
        let spec = ContainerSpec::new(name, &["/bin/api", "--listen", "0.0.0.0:8080"]);
        scene::wait_listening(&bed.run(spec.inside(netns, address))?, 8080)?;
    }
    let ingress = ContainerSpec::new("ingress", &["/bin/nginx", "-c", "/conf/nginx.conf"]).file("nginx.conf", NGINX);
    scene::wait_listening(&bed.run(ingress.inside(i, of(0, 2)))?, 80)?;
    bed.run(ContainerSpec::new("klipper", &["/bin/sleep", "10000"]).inside(l, of(0, 3)))?;
    let (service, count) = (format!("10.96.{NUMBER}.1:80"), INSIDE.to_string());
    let command = ["/bin/loadgen", "--gate", "/conf/gate", "--target", &service, "--count", &count];
    let shopper = bed.run(ContainerSpec::new("shopper", &command).inside(c, of(0, 5)))?;
    agent.wait_pods(5)?;

    let mut load = outside.command(&built_binary("loadgen")?);
    let answered = load.args(["--target", "100.71.0.1:80", "--count", &OUTSIDE.to_string()]).output()?;
    ensure!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
    assert_eq!(run_to_end(&bed, &shopper)?["answered"], INSIDE);

    let half = (INSIDE + OUTSIDE) / 2;
    let wanted = [
        format!("ingress > far, client: {half}"),
        format!("ingress > far, server: {half}"),
        format!("ingress > near, client: {half}"),
        format!("ingress > near, server: {half}"),
        format!("klipper > ingress, server: {OUTSIDE}"),
        format!("klipper > private, client: {OUTSIDE}"),
        format!("shared > klipper, server: {OUTSIDE}"),
        format!("shopper > ingress, server: {INSIDE}"),
        format!("shopper > private, client: {INSIDE}"),
    ];
    let mut found = Vec::new();
    until("these edges, and no others", PATIENCE, || {
        found = edges(&agent).unwrap_or_default();
        found == wanted
    })
    .with_context(|| format!("{found:#?}\n{}", agent.edges()))?;
    // Nobody sees the end of who is outside.
    let sent = (INSIDE + OUTSIDE) * 2;
    assert_eq!([agent.all("client"), agent.all("server")], [(sent, 0), (sent + OUTSIDE, 0)], "{}", agent.edges());
    drop(agent);
    drop(outside);
    assert_eq!(bed.take_down()?, Vec::<String>::new());
    Ok(())
}
