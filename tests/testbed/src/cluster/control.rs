use super::api_server::ApiServer;
use super::audit::Audit;
use super::certs::{self, Authority};
use super::client::Client;
use super::etcd::Etcd;
use super::kubeconfig::{self, Credential, Tokens, User};
use super::place::Place;
use super::{kinds, manifest};
use crate::agent::free_port;
use crate::process::Process;
use crate::wait::until;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the agent may do, as shipped.
const AGENT_RIGHTS: &str = include_str!("../../../../packaging/kubernetes/agent-rbac.yaml");

/// What a test may want of the API server; the rest is as Kubernetes ships it.
#[derive(Clone, Debug, Default)]
pub struct ControlPlaneOptions {
    /// `--min-request-timeout`, seconds: the server ends each watch after one to two times this.
    /// Its own default is 1800.
    pub min_request_timeout: Option<u32>,
    /// More flags of the API server, as `--name=value`. A later flag wins.
    pub api_server_flags: Vec<String>,
    /// Where the API server listens; the loopback without it.
    pub address: Option<IpAddr>,
    /// The API server hands over to others (APIService), as kubeadm, k3s and managed clusters have it.
    pub aggregation: bool,
}

/// A real etcd and a real API server in a directory of their own. Ready about five seconds after
/// [`ControlPlane::start`]; everything is gone after the drop. Needs no root.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order: the directory goes last.
    api_server: ApiServer,
    etcd: Etcd,
    admin: Client,
    server: SocketAddr,
    tokens: Tokens,
    authority: Authority,
    client_authority: Authority,
    pub(super) place: Place,
}

impl ControlPlane {
    pub fn start(options: &ControlPlaneOptions) -> Result<ControlPlane> {
        ControlPlane::start_in(Place::new()?, options)
    }

    pub(super) fn start_in(place: Place, options: &ControlPlaneOptions) -> Result<ControlPlane> {
        let address = options.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let server = SocketAddr::new(address, free_port()?);
        let (authority, client_authority) = (Authority::new("testbed")?, Authority::new("testbed-clients")?);
        let tokens = Tokens::new()?;
        write_keys(&place, &authority, &client_authority, &tokens, address)?;
        let tls = certs::client_config(&authority.pem())?;
        let admin = Client::new(server, Some(tls), Some(tokens.of(User::Admin).to_owned()));
        let etcd = Etcd::start(&place)?;
        let mut flags = if options.aggregation { front_proxy(&place)? } else { Vec::new() };
        flags.extend(options.api_server_flags.iter().cloned());
        flags.extend(options.min_request_timeout.map(|seconds| format!("--min-request-timeout={seconds}")));
        let api_server = ApiServer::start(&place, address, server.port(), etcd.server(), &flags, &admin)?;
        let plane = ControlPlane { api_server, etcd, admin, server, tokens, authority, client_authority, place };
        plane.grant_agent()?;
        Ok(plane)
    }

    /// Applies the shipped RBAC manifest and waits until the server acts on it: for a moment, a
    /// fresh one refuses everybody.
    fn grant_agent(&self) -> Result<()> {
        manifest::apply(&self.admin, AGENT_RIGHTS).context("apply the agent's RBAC manifest")?;
        self.wait_agent_may(true)
    }

    /// Waits until the server grants or refuses the agent's list of pods. Asked as the
    /// administrator, so that the agent's own account in the audit log stays empty.
    pub fn wait_agent_may(&self, allowed: bool) -> Result<()> {
        let question = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": User::Agent.name(),
                "resourceAttributes": {"verb": "list", "resource": "pods"},
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        until("the agent's rights are in force", Duration::from_secs(30), || {
            let body = question.to_string();
            let reply = self.admin.request("POST", path, Some(("application/json", body.as_bytes())));
            reply.and_then(|reply| reply.json()).is_ok_and(|answer| answer["status"]["allowed"] == allowed)
        })
    }

    /// Takes the agent's rights away, or gives them back: deletes or creates its
    /// ClusterRoleBinding, and waits until that is in force.
    pub fn set_agent_rights(&self, granted: bool) -> Result<()> {
        if granted {
            return self.grant_agent();
        }
        self.admin.delete(&kinds::CLUSTER_ROLE_BINDING, None, "pilotfish-agent")?;
        self.wait_agent_may(false)
    }

    /// The administrator, over a connection that all who ask for it share; clone it for one of your own.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.admin
    }

    pub fn client_of(&self, user: User) -> Result<Client> {
        self.client_at(self.server, self.tokens.of(user))
    }

    pub fn client_with_token(&self, token: &str) -> Result<Client> {
        self.client_at(self.server, token)
    }

    pub(super) fn token_of(&self, user: User) -> &str {
        self.tokens.of(user)
    }

    pub(super) fn client_at(&self, server: SocketAddr, token: &str) -> Result<Client> {
        let tls = certs::client_config(&std::fs::read_to_string(self.authority_file())?)?;
        Ok(Client::new(server, Some(tls), Some(token.to_owned())))
    }

    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.server)
    }

    /// Everything that is a file is below this directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.place.dir()
    }

    #[must_use]
    pub fn id(&self) -> &str {
        self.place.id()
    }

    /// The certificates that a client is to trust, PEM. Rewritten by a rotation.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.place.pki("ca.pem")
    }

    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit::at(&self.place.dir().join("audit.log"))
    }

    #[must_use]
    pub fn api_server_pid(&self) -> u32 {
        self.api_server.pid()
    }

    pub fn api_server_log(&self) -> PathBuf {
        self.place.log("kube-apiserver")
    }

    /// A kubeconfig of `user` with its token inside.
    pub fn kubeconfig(&self, user: User) -> Result<PathBuf> {
        self.kubeconfig_at(user, self.server)
    }

    /// The same for a server in front of the real one; `server` has to be an address that the certificate names: see
    /// [`super::Fault`].
    pub fn kubeconfig_at(&self, user: User, server: SocketAddr) -> Result<PathBuf> {
        let path = self.place.dir().join("conf").join(format!("{}-{}.kubeconfig", user.file_name(), server.port()));
        let credential = Credential::Token(self.tokens.of(user));
        kubeconfig::write(&path, &format!("https://{server}"), &self.authority_file(), &credential)
    }

    /// A kubeconfig that names a file with the token: rewrite that file to rotate it.
    pub fn kubeconfig_with_token_file(&self, token_file: &Path, server: SocketAddr) -> Result<PathBuf> {
        let name = token_file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let path = self.place.dir().join("conf").join(format!("{name}-{}.kubeconfig", server.port()));
        let url = format!("https://{server}");
        kubeconfig::write(&path, &url, &self.authority_file(), &Credential::TokenFile(token_file))
    }

    /// A kubeconfig of any user, in any groups, with a client certificate instead of a token.
    pub fn kubeconfig_with_certificate(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let pair = self.client_authority.client(user, groups)?;
        let name: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = self.place.dir().join("conf").join(format!("{name}-certificate.kubeconfig"));
        kubeconfig::write(&path, &self.url(), &self.authority_file(), &Credential::Certificate(&pair))
    }

    /// A certificate for another server on `address` that clients of this cluster trust.
    pub(super) fn server_certificate(&self, address: IpAddr) -> Result<certs::Pair> {
        self.authority.server(&names_of(address))
    }

    /// A program beside the cluster that ends with it, and is found again after a kill -9. Its
    /// output is in the directory's `logs`.
    pub fn start_beside(&self, name: &str, command: &mut Command) -> Result<Process> {
        self.place.start(name, command)
    }

    /// SIGKILL: every connection is reset, and connecting is refused from now on.
    pub fn kill_api_server(&mut self) {
        self.api_server.kill();
    }

    /// SIGTERM, and SIGKILL after `grace`: watches are ended in order, then the port closes.
    pub fn stop_api_server(&mut self, grace: Duration) {
        self.api_server.stop(grace);
    }

    /// After [`ControlPlane::kill_api_server`] or [`ControlPlane::stop_api_server`]: the same port,
    /// the same data. Returns when it is ready.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.api_server.start_again(&self.place, &self.admin)
    }

    pub fn restart_api_server(&mut self) -> Result<()> {
        self.kill_api_server();
        self.start_api_server()
    }

    pub fn is_api_server_running(&mut self) -> bool {
        self.api_server.is_running()
    }

    /// SIGSTOP: connections stay open and new ones are accepted by the kernel, and nothing is ever answered.
    pub fn freeze(&self) -> Result<()> {
        self.api_server.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.api_server.signal(Signal::SIGCONT)
    }

    /// Compacts etcd at its newest revision, which is returned.
    pub fn compact(&self) -> Result<u64> {
        self.etcd.compact()
    }

    /// A token of the agent's service account that ends with the Secret it is bound to: see [`ControlPlane::revoke`].
    pub fn new_agent_token(&self, secret: &str) -> Result<String> {
        let namespace = "pilotfish";
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": namespace},
        });
        let made = self.admin.create(&kinds::SECRET, &object)?;
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600, "boundObjectRef": {
                "apiVersion": "v1", "kind": "Secret", "name": secret, "uid": made["metadata"]["uid"],
            }},
        });
        let path = format!("{}/token", kinds::SERVICE_ACCOUNT.object(Some(namespace), "pilotfish-agent"));
        let reply = self.admin.request("POST", &path, Some(("application/json", request.to_string().as_bytes())))?;
        let answer = reply.json()?;
        Ok(answer["status"]["token"].as_str().with_context(|| format!("{path}: {answer}"))?.to_owned())
    }

    /// Deletes the Secret that a token of [`ControlPlane::new_agent_token`] is bound to. The server
    /// refuses it some 10 s later (it remembers good tokens that long); a watch that is open stays
    /// open.
    pub fn revoke(&self, secret: &str) -> Result<()> {
        self.admin.delete(&kinds::SECRET, Some("pilotfish"), secret)
    }

    /// A new authority and a new certificate for the server, in the same files. Returns when new
    /// connections are served with it; open ones stay. Trust in the old one ends for those who read
    /// [`ControlPlane::authority_file`] again.
    pub fn rotate_authority(&mut self) -> Result<()> {
        self.authority = Authority::new("testbed-2")?;
        std::fs::write(self.authority_file(), self.authority.pem())?;
        let pair = self.authority.server(&names_of(self.server.ip()))?;
        pair.write(&self.place.pki("server.pem"), &self.place.pki("server.key"))?;
        self.admin = self.client_of(User::Admin)?;
        // It looks at the files when they change, and every minute in any case.
        until("the API server shows its new certificate", Duration::from_secs(90), || {
            self.admin.clone().request("GET", "/readyz", None).is_ok()
        })
    }

    /// Takes everything down and tells what is left, which should be nothing.
    pub fn take_down(mut self) -> Result<Vec<String>> {
        self.end_processes();
        self.place.take_down()
    }

    fn end_processes(&mut self) {
        // Killed, not asked: their data goes with them.
        self.api_server.kill();
        self.etcd.process_mut().kill();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end_processes();
    }
}

fn names_of(address: IpAddr) -> Vec<String> {
    let mut names: Vec<String> =
        ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes", "kubernetes.default.svc"].map(str::to_owned).into();
    if !names.contains(&address.to_string()) {
        names.push(address.to_string());
    }
    names
}

/// A front proxy with a CA of its own, and the flags that say so.
fn front_proxy(place: &Place) -> Result<Vec<String>> {
    let authority = Authority::new("testbed-front-proxy")?;
    std::fs::write(place.pki("front-proxy-ca.pem"), authority.pem())?;
    let (certificate, key) = (place.pki("front-proxy.pem"), place.pki("front-proxy.key"));
    authority.client("front-proxy-client", &[])?.write(&certificate, &key)?;
    Ok(vec![
        format!("--requestheader-client-ca-file={}", place.pki("front-proxy-ca.pem").display()),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", certificate.display()),
        format!("--proxy-client-key-file={}", key.display()),
    ])
}

fn write_keys(
    place: &Place,
    authority: &Authority,
    clients: &Authority,
    tokens: &Tokens,
    address: IpAddr,
) -> Result<()> {
    std::fs::write(place.pki("ca.pem"), authority.pem())?;
    std::fs::write(place.pki("client-ca.pem"), clients.pem())?;
    authority.server(&names_of(address))?.write(&place.pki("server.pem"), &place.pki("server.key"))?;
    let kubelet_client = clients.client("kube-apiserver-kubelet-client", &["system:masters"])?;
    kubelet_client.write(&place.pki("kubelet-client.pem"), &place.pki("kubelet-client.key"))?;
    let (private, public) = certs::signing_key()?;
    certs::write_secret(&place.pki("accounts.key"), &private)?;
    std::fs::write(place.pki("accounts.pub"), public)?;
    tokens.write(&place.pki("tokens.csv"))
}
