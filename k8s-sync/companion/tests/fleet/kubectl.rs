//! kubectl, a real API server, and the companion behind it.

use crate::bed::{Agent, cut, full};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use companion::apis::FrontProxy;
use companion::serve::{Api, Certificate, Push};
use companion::{Config, Fleet};
use join::message::Severity;
use join::{Me, Token};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use testbed::cluster::binaries::{Program, find};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, User};
use testbed::until_some;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Authority> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Authority(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Certificate and key, PEM.
    fn pair(&self, common_name: &str, names: &[String]) -> Result<(String, String)> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.0)?.pem(), key.serialize_pem()))
    }
}

pub struct Bed {
    pub plane: ControlPlane,
    pub kubectl: PathBuf,
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
    address: SocketAddr,
    ca: String,
    stop: CancellationToken,
}

impl Bed {
    pub fn new() -> Result<Bed> {
        let (runtime, dir) = (Runtime::new()?, tempfile::tempdir()?);
        let (proxy_ca, own_ca) = (Authority::new()?, Authority::new()?);
        let (certificate, key) = proxy_ca.pair("front-proxy-client", &[])?;
        let file = |name: &str, text: &str| -> Result<String> {
            let path = dir.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        let api_server_flags = vec![
            format!("--requestheader-client-ca-file={}", file("proxy-ca.pem", &proxy_ca.0.pem())?),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--proxy-client-cert-file={}", file("proxy.pem", &certificate)?),
            format!("--proxy-client-key-file={}", file("proxy.key", &key)?),
        ];
        let plane = ControlPlane::start(&ControlPlaneOptions { api_server_flags, ..ControlPlaneOptions::default() })?;

        let config = Config { period: Duration::from_secs(1), ..Config::default() };
        let fleet = Arc::new(Mutex::new(Fleet::new(Me::new("0.2.0", 1), config)));
        fleet.lock().set_nodes(["n1", "n2", "n3"].map(str::to_owned).into());
        let token = Token::new("the-token-of-this-cluster").context("a token")?.hash();
        let push = Arc::new(Push::new(fleet, token));
        let proxy = FrontProxy {
            ca: proxy_ca.0.pem(),
            allowed_names: vec!["front-proxy-client".to_owned()],
            user_headers: vec!["X-Remote-User".to_owned()],
        };
        let (certificate, key) = own_ca.pair("companion", &["companion.pilotfish.svc".to_owned()])?;
        let api = Arc::new(Api::new(Certificate::new(&certificate, &key)?, push.clone())?);
        api.set_front_proxy(proxy)?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        runtime.spawn(api.run(listener, stop.clone()));
        runtime.spawn(traffic(push, stop.clone()));
        let (kubectl, ca) = (find(Program::Kubectl)?, own_ca.0.pem());
        let bed = Bed { plane, kubectl, dir, runtime, address, ca, stop };
        bed.install()?;
        Ok(bed)
    }

    /// A Service that leads here, and the APIService.
    fn install(&self) -> Result<()> {
        let (port, ca) = (self.address.port(), STANDARD.encode(self.ca.as_bytes()));
        self.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: pilotfish}}\n---\n\
             apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: companion, namespace: pilotfish}}\n\
             spec: {{type: ExternalName, externalName: localhost}}\n---\n\
             apiVersion: apiregistration.k8s.io/v1\nkind: APIService\n\
             metadata: {{name: v1alpha1.traffic.pilotfish.io}}\n\
             spec: {{group: traffic.pilotfish.io, version: v1alpha1, groupPriorityMinimum: 1000, versionPriority: 10,\n\
             \x20 caBundle: {ca}, service: {{name: companion, namespace: pilotfish, port: {port}}}}}\n"
        ))?;
        let available =
            ["wait", "--for=condition=Available", "--timeout=60s", "apiservice/v1alpha1.traffic.pilotfish.io"];
        self.kubectl(&available).map(drop)
    }

    /// What the companion answers to somebody who says that he is the administrator.
    async fn forged(&self) -> Result<String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("companion.pilotfish.svc")?;
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let request = "GET /apis/traffic.pilotfish.io/v1alpha1/edges HTTP/1.1\r\nHost: companion\r\n\
                       X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\nConnection: close\r\n\r\n";
        tls.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    pub fn apply(&self, manifest: &str) -> Result<()> {
        let mut child = self.command(User::Admin, &["apply", "-f", "-"])?.stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin")?.write_all(manifest.as_bytes())?;
        ensure!(child.wait()?.success(), "kubectl apply");
        Ok(())
    }

    pub fn command(&self, user: User, arguments: &[&str]) -> Result<Command> {
        self.command_with(&self.plane.kubeconfig(user)?, arguments)
    }

    fn command_with(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(kubeconfig).arg("--cache-dir").arg(self.dir.path().join("cache"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// The companion is dead: nobody listens where it was.
    pub fn die(&self) {
        self.stop.cancel();
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        said(self.command(User::Admin, arguments)?.output()?, arguments)
    }
}

fn said(output: Output, arguments: &[&str]) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// web asks api on two nodes, for as long as the test takes.
async fn traffic(push: Arc<Push>, stop: CancellationToken) {
    let mut agents = [Agent::new("n1", 11), Agent::new("n2", 12)];
    agents[0].finds(100_000, &[cut("api", Severity::Error), full()]);
    agents[1].finds(100_000, &[cut("api", Severity::Warning)]);
    // Another rate each ten seconds: somebody watches.
    for round in 0_u64.. {
        if stop.is_cancelled() {
            return;
        }
        for agent in &mut agents {
            agent.answers(3 + round / 40 % 5, 200, 4);
            agent.run(push.now(), &mut push.fleet().lock());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn wait<T>(what: &str, mut get: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_some(what, Duration::from_secs(90), || get().transpose())?
}

#[test]
fn kubectl_shows_the_cluster_through_a_real_api_server() -> Result<()> {
    let bed = Bed::new()?;
    let rows = wait("a table of both nodes", || {
        let table = bed.kubectl(&["get", "workloadtraffic", "-n", "shop"])?;
        Ok(table.contains("2/2").then_some(table))
    })?;
    assert!(rows.starts_with("NAME"), "{rows}");
    let heads: Vec<&str> = rows.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heads, ["NAME", "SUCCESS", "RPS", "P50", "P95", "P99", "NODES"]);
    assert!(rows.contains("api") && rows.contains("100.00%"), "{rows}");

    let wide = bed.kubectl(&["get", "edges", "-A", "-o", "wide"])?;
    assert!(wide.contains("TCP-CONN") && wide.contains("web") && wide.starts_with("NAMESPACE"), "{wide}");
    assert!(bed.kubectl(&["get", "wt", "-A", "--sort-by=.golden.requestsPerSecond"])?.contains("api"));
    // By what is in the objects: one row alone is not sorted.
    let sorted = bed.kubectl(&["get", "nodeagents", "--sort-by=.state", "--no-headers"])?;
    assert!(sorted.starts_with("n3 ") && sorted.lines().count() == 3, "{sorted}");
    assert!(bed.kubectl(&["get", "pilotfish", "-n", "shop"])?.contains("edge.traffic.pilotfish.io/web.api.http"));
    let one = bed.kubectl(&["get", "wt", "api", "-n", "shop", "-o", "jsonpath={.nodes.live}"])?;
    assert_eq!(one, "2");
    assert!(bed.kubectl(&["describe", "wt", "api", "-n", "shop"])?.contains("Requests Per Second"));
    // The API server fetches what explains the kinds by itself, some time after it serves them.
    let explained = wait("an explanation of edges", || Ok(bed.kubectl(&["explain", "edges", "--recursive"]).ok()))?;
    assert!(explained.contains("p95Seconds"), "{explained}");
    assert!(bed.kubectl(&["api-resources", "--api-group=traffic.pilotfish.io"])?.contains("workloadtraffic"));
    bed.kubectl(&["wait", "wt/api", "-n", "shop", "--for=jsonpath={.nodes.all}=2", "--timeout=30s"])?;

    let agents = bed.kubectl(&["get", "nodeagents", "--sort-by=.metadata.name"])?;
    let row = |node: &str| agents.lines().find(|line| line.starts_with(node)).unwrap_or_default().to_owned();
    assert!(row("n1").contains("Live") && row("n3").contains("no agent has joined"), "{agents}");
    assert!(bed.kubectl(&["describe", "nodeagent", "n3"])?.contains("Absent"));
    assert!(bed.kubectl(&["explain", "nodeagents"])?.contains("reason"));

    findings(&bed)?;
    watches(&bed)?;
    crate::plugin::shows_the_cluster(&bed)?;
    rights(&bed)?;
    crate::reviews::say_whose_token_it_is(&bed)?;
    what_nodes_get_is_applied_alone(&bed)?;
    absence(&bed)
}

/// What is wrong, by namespace, as other kinds are.
fn findings(bed: &Bed) -> Result<()> {
    let all = bed.kubectl(&["get", "findings", "-A"])?;
    let row = |node: &str, words: &str| all.lines().any(|line| line.contains(node) && line.contains(words));
    let heads: Vec<&str> = all.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(heads[..3] == ["NAMESPACE", "NAME", "SEVERITY"] && heads.ends_with(&["SINCE", "MESSAGE"]), "{all}");
    ensure!(row("n1", "3 requests to api unanswered") && row("n2", "warning") && row("n1", "default"), "{all}");
    let shop = bed.kubectl(&["get", "findings", "-n", "shop", "-o", "wide", "--sort-by=.severity", "--no-headers"])?;
    let wide = shop.contains("answer what is under way on SIGTERM") && shop.contains("shop/web: 3");
    ensure!(wide && shop.lines().count() == 2 && shop.starts_with("cut-by-exit.api-"), "shop: {shop}\n{all}");
    let one = ["get", "findings", "-n", "shop", "-l", "pilotfish.io/severity=error", "-o", "name"];
    let name = bed.kubectl(&one)?;
    ensure!(
        name.starts_with("finding.traffic.pilotfish.io/cut-by-exit.api-") && name.lines().count() == 1,
        "name: {name}\n{all}"
    );
    let described = bed.kubectl(&["describe", name.trim(), "-n", "shop"])?;
    ensure!(described.contains("Requests Hurt:") && described.contains("Certainty:"), "described: {described}");
    let explained = bed.kubectl(&["explain", "findings", "--recursive"])?;
    ensure!(explained.contains("requestsHurt") && explained.contains("evidence"), "explained: {explained}");
    let watch = ["get", "findings", "-A", "-w", "--request-timeout=3s"];
    let output = bed.command(User::Admin, &watch)?.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.lines().count() == 4, "nothing changes: {text}");
    Ok(())
}

/// `-w` tells of changes for as long as it runs.
fn watches(bed: &Bed) -> Result<()> {
    let arguments = ["get", "wt", "-n", "shop", "-w", "--request-timeout=8s"];
    let output = bed.command(User::Admin, &arguments)?.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.lines().filter(|line| line.starts_with("api")).count() >= 2, "{text}");
    ensure!(text.lines().filter(|line| line.starts_with("NAME")).count() == 1, "{text}");
    Ok(())
}

/// Rights are the API server's: by namespace.
fn rights(bed: &Bed) -> Result<()> {
    let bob = bed.plane.kubeconfig_with_certificate("bob", &[])?;
    let as_bob = |arguments: &[&str]| -> Result<Output> { Ok(bed.command_with(&bob, arguments)?.output()?) };
    let refused = as_bob(&["get", "wt", "-n", "shop"])?;
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("Forbidden"), "{refused:?}");
    bed.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: traffic, namespace: shop}\n\
         rules: [{apiGroups: [traffic.pilotfish.io], resources: ['*'], verbs: [get, list, watch]}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: bob, namespace: shop}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: traffic}\n\
         subjects: [{kind: User, name: bob, apiGroup: rbac.authorization.k8s.io}]\n",
    )?;
    wait("bob may read shop", || Ok(as_bob(&["get", "wt", "-n", "shop"])?.status.success().then_some(())))?;
    ensure!(!as_bob(&["get", "wt", "-A"])?.status.success(), "bob sees all namespaces");
    let findings = as_bob(&["get", "findings", "-n", "shop"])?;
    ensure!(String::from_utf8_lossy(&findings.stdout).lines().count() == 3, "{findings:?}");
    ensure!(!as_bob(&["get", "findings", "-n", "default"])?.status.success(), "bob sees what is of a node");
    ensure!(!as_bob(&["get", "nodeagents", "-n", "shop"])?.status.success(), "bob sees all agents");
    // Nor by going around the API server, whatever the headers say.
    let answer = bed.runtime.block_on(bed.forged())?;
    ensure!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    Ok(())
}

/// What nodes get is applied alone while the CA is changed (docs/companion.md).
fn what_nodes_get_is_applied_alone(bed: &Bed) -> Result<()> {
    let mut print = Command::new(env!("CARGO_BIN_EXE_pilotfish-companion"));
    let printed = print.args(["secrets", "--address", "10.96.0.7:10251"]).output()?;
    let file = bed.dir.path().join("new.json");
    std::fs::write(&file, said(printed, &["secrets"])?)?;
    let file = file.display().to_string();
    let part = "app.kubernetes.io/component=join";
    let applied = bed.kubectl(&["apply", "--dry-run=server", "-o", "name", "-l", part, "-f", &file])?;
    let mut names: Vec<&str> = applied.lines().collect();
    names.sort_unstable();
    ensure!(names == ["configmap/pilotfish-agent-join", "secret/pilotfish-join"], "{applied}");
    Ok(())
}

/// While the companion is dead its own objects are not there, and all else is as before.
fn absence(bed: &Bed) -> Result<()> {
    bed.die();
    let output = bed.command(User::Admin, &["get", "wt", "-n", "shop"])?.output()?;
    ensure!(!output.status.success(), "an answer of nobody");
    bed.kubectl(&["get", "namespaces"])?;
    bed.kubectl(&["delete", "apiservice", "v1alpha1.traffic.pilotfish.io"])?;
    bed.kubectl(&["get", "all", "-A"]).map(drop)
}
