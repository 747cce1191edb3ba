//! The API server's process: its flags, its start, and what can be done to it.

use super::audit;
use super::binaries::{Program, find};
use super::client::Client;
use super::kinds;
use super::place::Place;
use crate::process::Process;
use crate::wait::until;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// Service addresses of the cluster, of both families; a Service has one of the first unless it asks for both.
pub(super) const SERVICE_RANGE: &str = "10.96.0.0/16,fd00:96::/112";

#[derive(Debug)]
pub(super) struct ApiServer {
    process: Process,
    flags: Vec<String>,
    program: std::path::PathBuf,
}

impl ApiServer {
    pub fn start(
        place: &Place,
        address: IpAddr,
        port: u16,
        etcd: SocketAddr,
        more: &[String],
        client: &Client,
    ) -> Result<ApiServer> {
        let path = |name: &str| place.pki(name).display().to_string();
        let (policy, log) = (place.dir().join("conf/audit-policy.json"), place.dir().join("audit.log"));
        std::fs::write(&policy, audit::POLICY)?;
        let mut flags = vec![
            format!("--etcd-servers=http://{etcd}"),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            format!("--secure-port={port}"),
            // It would not announce a loopback address, and nobody asks for the `kubernetes` Service.
            "--endpoint-reconciler-type=none".into(),
            format!("--tls-cert-file={}", path("server.pem")),
            format!("--tls-private-key-file={}", path("server.key")),
            format!("--client-ca-file={}", path("client-ca.pem")),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", path("accounts.pub")),
            format!("--service-account-signing-key-file={}", path("accounts.key")),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            // Pods of tests are bare: no account, no token.
            "--disable-admission-plugins=ServiceAccount".into(),
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
            // kubectl logs and exec: the server goes to the kubelet's address, since it cannot resolve its name.
            "--kubelet-preferred-address-types=InternalIP".into(),
            format!("--kubelet-client-certificate={}", path("kubelet-client.pem")),
            format!("--kubelet-client-key={}", path("kubelet-client.key")),
        ];
        flags.extend_from_slice(more);
        let program = find(Program::ApiServer)?;
        let mut server = ApiServer { process: spawn(place, &program, &flags)?, flags, program };
        server.wait_ready(place, client)?;
        Ok(server)
    }

    /// With the same flags, on the same port.
    pub fn start_again(&mut self, place: &Place, client: &Client) -> Result<()> {
        self.process = spawn(place, &self.program, &self.flags)?;
        self.wait_ready(place, client)
    }

    fn wait_ready(&mut self, place: &Place, client: &Client) -> Result<()> {
        // 30 s with 100,000 pods in etcd, on 2 processors that others use too; 4 s when empty.
        // Its own Service is made by a controller of its own, now and then seconds after it says that it is ready.
        let own = kinds::SERVICE.object(Some("default"), "kubernetes");
        let answers = |path: &str| client.request("GET", path, None).is_ok_and(|reply| reply.status == 200);
        let ready = until("the API server is ready and has its own Service", Duration::from_secs(180), || {
            !self.process.is_running() || (answers("/readyz") && answers(&own))
        });
        if !self.process.is_running() {
            bail!("the API server ended:\n{}", place.log_tail("kube-apiserver"));
        }
        ready.with_context(|| place.log_tail("kube-apiserver"))
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// At once: connections are reset, as in a crash of the machine's process.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM: it finishes what it is doing, ends watches, and drains; longer than `grace` is cut short.
    pub fn stop(&mut self, grace: Duration) {
        self.process.stop(grace);
    }
}

fn spawn(place: &Place, program: &std::path::Path, flags: &[String]) -> Result<Process> {
    place.start("kube-apiserver", Command::new(program).args(flags))
}
