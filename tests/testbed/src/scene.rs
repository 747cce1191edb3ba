//! The services that the demo and the tests watch: a load generator calls nginx, which calls an
//! API, which keeps its items in Redis; the generator also looks names up at a dnsmasq.

use crate::bed::Testbed;
use crate::container::{Container, ContainerSpec};
use crate::rootfs;
use crate::wait::{until, until_some};
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

/// containerd's namespace of the scene's containers.
pub const NAMESPACE: &str = "demo";

#[derive(Debug)]
pub struct Scene {
    pub redis: Container,
    pub api: Container,
    pub nginx: Container,
    pub dns: Container,
}

impl Scene {
    /// Starts the servers, each waiting until the one behind it listens. Nothing is sent to them yet.
    pub fn start(bed: &mut Testbed, mut progress: impl FnMut(&str)) -> Result<Scene> {
        progress("redis");
        let redis = redis(bed)?;
        progress("api");
        let redis_at = format!("{}:6379", redis.address);
        let api = run(bed, ContainerSpec::new("api", &["/bin/api", "--redis", &redis_at, "--fail-every", "50"]), 8080)?;
        progress("nginx");
        let nginx = nginx_proxy(bed, api.address)?;
        progress("dns");
        let dns = dnsmasq(bed, nginx.address)?;
        Ok(Scene { redis, api, nginx, dns })
    }

    /// Starts the generator against nginx and the resolver; `args` are the generator's own options.
    /// It sends nothing before [`open_gate`].
    pub fn start_load(&self, bed: &mut Testbed, args: &[&str]) -> Result<Container> {
        let (target, dns) = (format!("{}:80", self.nginx.address), format!("{}:53", self.dns.address));
        let mut command = vec!["/bin/loadgen", "--gate", "/conf/gate", "--target", &target, "--dns", &dns];
        command.extend_from_slice(args);
        bed.run(ContainerSpec::new("loadgen", &command).in_namespace(NAMESPACE))
    }
}

/// Lets a generator that was started with `--gate /conf/gate` begin.
pub fn open_gate(bed: &Testbed, generator: &Container) -> Result<()> {
    let gate = bed.dir().join("conf").join(&generator.name).join("gate");
    std::fs::write(&gate, "").with_context(|| format!("write {}", gate.display()))
}

/// Asks a program of this crate to end and returns the JSON line that it prints then.
pub fn final_line(bed: &Testbed, container: &Container, patience: Duration) -> Result<serde_json::Value> {
    let kill = ["task", "kill", "--signal", "SIGTERM", &container.name];
    bed.containerd_at(container.containerd).ctr(&container.namespace, &kill).ok();
    last_line(container, patience)
}

/// Waits for the JSON line that a program of this crate prints at its end.
pub fn last_line(container: &Container, patience: Duration) -> Result<serde_json::Value> {
    let line = || container.output().lines().rev().find_map(|line| serde_json::from_str(line).ok());
    until_some(&format!("{} tells what it did", container.name), patience, line).with_context(|| container.output())
}

pub fn redis(bed: &mut Testbed) -> Result<Container> {
    let command = ["/bin/redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/tmp"];
    run(bed, ContainerSpec::new("redis", &command), 6379)
}

/// What a Redis was asked, by its own count: in `stats`, what `info commandstats` says, which is not in it itself.
pub fn redis_commands(stats: &str) -> Result<u64> {
    let of = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    let lines = stats.lines().filter(|line| line.starts_with("cmdstat_"));
    let calls: Vec<u64> = lines.map(|line| of(line).with_context(|| line.to_owned())).collect::<Result<_>>()?;
    ensure!(!calls.is_empty(), "no commands in {stats:?}");
    Ok(calls.iter().sum())
}

/// A PostgreSQL that trusts everybody, with an empty database `postgres`.
pub fn postgres(bed: &mut Testbed) -> Result<Container> {
    let programs = rootfs::add_postgres(&bed.dir().join("rootfs"))?;
    // It does not run as root.
    let script = format!(
        "mkdir -p /tmp/pg && chown nobody /tmp/pg && \
         su -s /bin/sh nobody -c '{0}/initdb -D /tmp/pg/data -U postgres -A trust -N --locale=C >/tmp/pg/initdb.log' && \
         echo 'host all all all trust' >>/tmp/pg/data/pg_hba.conf && \
         exec su -s /bin/sh nobody -c 'exec {0}/postgres -D /tmp/pg/data -k /tmp/pg -h 0.0.0.0 -c fsync=off -c jit=off'",
        programs.display()
    );
    run(bed, ContainerSpec::new("postgres", &["/bin/sh", "-c", &script]), 5432)
}

/// A MariaDB without tables of its own, which lets everybody in.
pub fn mariadb(bed: &mut Testbed) -> Result<Container> {
    let program = rootfs::add_mariadb(&bed.dir().join("rootfs"))?;
    // All that it would look up about users is missing, and an engine that keeps data is not wanted.
    let script = format!(
        "mkdir -p /tmp/my/data && exec {} --no-defaults --user=root --datadir=/tmp/my/data --skip-grant-tables \
         --skip-networking=0 --skip-innodb --default-storage-engine=MyISAM --bind-address=0.0.0.0 --port=3306 \
         --socket=/tmp/my/socket --pid-file=/tmp/my/pid --skip-name-resolve",
        program.display()
    );
    run(bed, ContainerSpec::new("mariadb", &["/bin/sh", "-c", &script]), 3306)
}

/// A broker of Kafka with its controller, and the jars of `kafka` (`scripts/kafka.sh`). It takes messages of 20 MB.
pub fn kafka(bed: &mut Testbed, kafka: &Path) -> Result<Container> {
    let config = "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:9093\n\
                  controller.listener.names=CONTROLLER\nlog.dirs=/tmp/kafka\nnum.partitions=1\n\
                  offsets.topic.replication.factor=1\nmessage.max.bytes=20971520\nreplica.fetch.max.bytes=20971520\n";
    let script = "set -f; address=$(busybox ip -4 addr show scope global | busybox sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p') && \
                  busybox mkdir -p /tmp/kafka && \
                  { busybox cat /conf/server.properties; \
                  echo listeners=PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093; \
                  echo advertised.listeners=PLAINTEXT://$address:9092; } >/tmp/server.properties && \
                  export LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu && \
                  java='/usr/bin/java -Djava.net.preferIPv4Stack=true -Xmx384m -cp /kafka/lib/*' && \
                  $java kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qk -c /tmp/server.properties && \
                  exec $java kafka.Kafka /tmp/server.properties";
    let mut spec = ContainerSpec::new("kafka", &["/bin/sh", "-c", script]).file("server.properties", config);
    spec = spec.mount(kafka, "/kafka").mount(Path::new("/usr"), "/usr");
    // Java's own settings are there on Debian, and what /usr/bin/java is.
    for path in ["/etc/alternatives", "/etc/java-17-openjdk"].map(Path::new) {
        if path.exists() {
            spec = spec.mount(path, &path.display().to_string());
        }
    }
    let container = bed.run(spec.in_namespace(NAMESPACE))?;
    let listening = || listens(container.pid, 9092);
    until("the broker listens", Duration::from_secs(90), listening).with_context(|| container.output())?;
    Ok(container)
}

/// nginx that passes every request on, over kept connections.
pub fn nginx_proxy(bed: &mut Testbed, api: Ipv4Addr) -> Result<Container> {
    nginx(
        bed,
        "nginx",
        &format!(
            "upstream api {{ server {api}:8080; keepalive 64; keepalive_requests 1000000000; }}\n\
             server {{ listen 80 backlog=4096; location / {{ proxy_pass http://api; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; }} }}\n"
        ),
        None,
    )
}

/// nginx in a container called `name`, one worker, no log on disk, with these `server` blocks.
pub fn nginx(bed: &mut Testbed, name: &str, servers: &str, processor: Option<usize>) -> Result<Container> {
    let conf = format!(
        "daemon off; master_process off; worker_processes 1; pid /tmp/{name}.pid; error_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; client_body_temp_path /tmp/{name}-body;\n\
         proxy_temp_path /tmp/{name}-proxy; fastcgi_temp_path /tmp/{name}-f; uwsgi_temp_path /tmp/{name}-u; scgi_temp_path /tmp/{name}-s;\n\
         {servers} }}\n"
    );
    let mut spec = ContainerSpec::new(name, &["/bin/nginx", "-c", "/conf/nginx.conf"]).file("nginx.conf", &conf);
    if let Some(processor) = processor {
        spec = spec.pinned_to(processor);
    }
    run(bed, spec, 80)
}

/// dnsmasq that knows `api.demo.test` (at `answer`) and that `missing.demo.test` does not exist.
pub fn dnsmasq(bed: &mut Testbed, answer: Ipv4Addr) -> Result<Container> {
    let conf = format!(
        "no-daemon\nno-resolv\nno-hosts\nuser=root\ncache-size=0\nlocal=/demo.test/\nhost-record=api.demo.test,{answer}\n\
         host-record=www.demo.test,{answer}\n"
    );
    run(
        bed,
        ContainerSpec::new("dns", &["/bin/dnsmasq", "--conf-file=/conf/dnsmasq.conf"]).file("dnsmasq.conf", &conf),
        53,
    )
}

/// Starts a server and waits until it listens, told by its namespace's own table: nothing is sent to it.
fn run(bed: &mut Testbed, spec: ContainerSpec, port: u16) -> Result<Container> {
    let container = bed.run(spec.in_namespace(NAMESPACE))?;
    wait_listening(&container, port)?;
    Ok(container)
}

/// Waits until something in the container's network listens on `port`: a container runs a moment
/// before its program does.
pub fn wait_listening(container: &Container, port: u16) -> Result<()> {
    let listening = || listens(container.pid, port);
    until(&format!("{} listens on port {port}", container.name), Duration::from_secs(20), listening)
        .with_context(|| container.output())
}

/// Whether any TCP socket of the process's network namespace listens on `port`
/// (`/proc/<pid>/net/tcp`: state 0A, RFC 793's LISTEN).
#[must_use]
pub fn listens(pid: u32, port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some("0A")
        })
    })
}
