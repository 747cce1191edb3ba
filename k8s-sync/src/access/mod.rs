//! Where the API server is, and with what one asks it: looked for in the usual places, in this order.
//!
//! 1. `[kubernetes] kubeconfig`: where it is named, nothing else is looked at.
//! 2. `$KUBECONFIG`.
//! 3. The service account of a pod: `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT` and the files of the account.
//! 4. `/etc/rancher/k3s/k3s.yaml`, or RKE2's `/etc/rancher/rke2/rke2.yaml`.
//!
//! The kubelet's own kubeconfig is not used, though it is on every node: its identity may see this
//! node's pods only (node authorizer), and where it asks a program for a token (EKS) that program
//! would run with this agent's rights. Programs (`exec`), auth providers and proxies are refused
//! with a reason; certificates, tokens and token files are taken.
//!
//! That nothing is found is a normal answer: the agent then has the names that containerd knows.

mod error;
mod files;
mod own;

pub use error::NoAccess;
pub use files::Fingerprint;
pub use own::{OwnAddresses, is_local};

use kube::config::{AuthInfo, Kubeconfig};
use std::ffi::OsString;
use std::path::PathBuf;

/// Where to look. Public so that a test can point it elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `[kubernetes] kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `$KUBECONFIG`: paths with colons between them; the first that defines a name wins.
    pub env: Option<OsString>,
    /// None outside a pod.
    pub service_account: Option<ServiceAccount>,
    /// Tried if they exist.
    pub usual: Vec<PathBuf>,
}

/// What the kubelet gives a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// `KUBERNETES_SERVICE_HOST`: a name or an address, IPv6 without brackets.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`, as text; 443 where it is not set.
    pub port: String,
    /// Holds `token` and `ca.crt`.
    pub directory: PathBuf,
}

impl Sources {
    /// The environment of this process and the paths of this machine.
    #[must_use]
    pub fn of_this_process(kubeconfig: Option<PathBuf>) -> Sources {
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Sources {
            kubeconfig,
            env: std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()),
            service_account: named("KUBERNETES_SERVICE_HOST").map(|host| ServiceAccount {
                host,
                port: named("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned()),
                directory: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount"),
            }),
            usual: ["/etc/rancher/k3s/k3s.yaml", "/etc/rancher/rke2/rke2.yaml"].map(PathBuf::from).to_vec(),
        }
    }
}

/// How to reach the API server, as the files said when they were read.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where this was found: a path, `$KUBECONFIG`, or `service account`.
    pub place: String,
    /// With everything that files held read in: nothing is read again before the next `find`.
    pub config: kube::Config,
    /// Of all files that this came from. Another one now means: find again.
    pub fingerprint: Fingerprint,
    /// Certificates of the server are not verified (`insecure-skip-tls-verify`).
    pub is_unverified: bool,
}

impl Access {
    /// The cluster's `server` URL, for `status` and the log.
    #[must_use]
    pub fn url(&self) -> String {
        self.config.cluster_url.to_string()
    }
}

/// Looks for the API server. Reads some small files, and asks nobody.
///
/// # Errors
/// A source that exists cannot be read, is too large or asks for what the agent does not do;
/// `NoneFound` where there is none. The first that exists decides: no later one is tried.
pub fn find(sources: &Sources) -> Result<Access, NoAccess> {
    if let Some(path) = &sources.kubeconfig {
        return kubeconfig(path.display().to_string(), std::slice::from_ref(path));
    }
    if let Some(paths) = &sources.env {
        let all: Vec<PathBuf> = std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()).collect();
        let there: Vec<PathBuf> = all.into_iter().filter(|path| files::is_there(path)).collect();
        if !there.is_empty() {
            return kubeconfig("$KUBECONFIG".to_owned(), &there);
        }
    }
    if let Some(account) = &sources.service_account {
        return service_account(account);
    }
    if let Some(path) = sources.usual.iter().find(|path| files::is_there(path)) {
        return kubeconfig(path.display().to_string(), std::slice::from_ref(path));
    }
    let usual: Vec<String> = sources.usual.iter().map(|path| path.display().to_string()).collect();
    Err(NoAccess::NoneFound {
        looked_at: ["$KUBECONFIG", "a pod's service account"]
            .into_iter()
            .chain(usual.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(", "),
    })
}

fn service_account(account: &ServiceAccount) -> Result<Access, NoAccess> {
    let refused = |reason: String| NoAccess::Refused { place: "service account".to_owned(), reason };
    let host = if account.host.contains(':') { format!("[{}]", account.host) } else { account.host.clone() };
    let url = format!("https://{host}:{}", account.port);
    let url = url.parse().map_err(|error| refused(format!("{url}: {error}")))?;
    let (token_file, ca_file) = (account.directory.join("token"), account.directory.join("ca.crt"));
    let mut config = kube::Config::new(url);
    let fingerprint = Fingerprint::of([token_file.clone(), ca_file.clone()]);
    config.root_cert = Some(files::certificates(&ca_file)?);
    config.auth_info.token = Some(files::token(&token_file)?.into());
    Ok(Access { place: "service account".to_owned(), config, fingerprint, is_unverified: false })
}

fn kubeconfig(place: String, paths: &[PathBuf]) -> Result<Access, NoAccess> {
    let refused = |reason: String| NoAccess::Refused { place: place.clone(), reason };
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        files::check_size(path)?;
        let one = Kubeconfig::read_from(path).map_err(|error| refused(error.to_string()))?;
        merged = Some(match merged {
            None => one,
            Some(before) => before.merge(one).map_err(|error| refused(error.to_string()))?,
        });
    }
    let mut whole = merged.ok_or_else(|| refused("empty".to_owned()))?;
    let mut sources: Vec<PathBuf> = paths.to_vec();
    let mut is_unverified = false;
    if let Some(context) = current_context(&whole) {
        let (cluster_name, user_name) = (context.cluster.clone(), context.user.clone());
        let cluster =
            whole.clusters.iter().find(|named| named.name == cluster_name).and_then(|named| named.cluster.as_ref());
        if let Some(cluster) = cluster {
            if cluster.proxy_url.is_some() {
                return Err(refused("it names a proxy (proxy-url), which the agent does not use".to_owned()));
            }
            is_unverified = cluster.insecure_skip_tls_verify == Some(true);
            sources.extend(cluster.certificate_authority.iter().map(PathBuf::from));
        }
        let user = whole.auth_infos.iter_mut().find(|named| Some(&named.name) == user_name.as_ref());
        if let Some(auth) = user.and_then(|named| named.auth_info.as_mut()) {
            sources.extend(user_of(auth, &refused)?);
        }
    }
    for path in &sources {
        files::check_size(path)?;
    }
    // Before the files are read: what changes meanwhile shows as a change.
    let fingerprint = Fingerprint::of(sources);
    let config = kube::Config::try_from(whole).map_err(|error| refused(error.to_string()))?;
    Ok(Access { place, config, fingerprint, is_unverified })
}

fn current_context(whole: &Kubeconfig) -> Option<&kube::config::Context> {
    let name = whole.current_context.as_deref()?;
    whole.contexts.iter().find(|named| named.name == name)?.context.as_ref()
}

/// Reads the token in, refuses what is not supported, and says which files the user's credentials are in.
fn user_of(auth: &mut AuthInfo, refused: &impl Fn(String) -> NoAccess) -> Result<Vec<PathBuf>, NoAccess> {
    if let Some(exec) = &auth.exec {
        let command = exec.command.as_deref().unwrap_or("a program");
        let way_out = "give the agent a service account's token instead (packaging/kubernetes/agent-rbac.yaml)";
        return Err(refused(format!("it runs {command} for credentials, which the agent does not; {way_out}")));
    }
    if let Some(provider) = &auth.auth_provider {
        return Err(refused(format!("auth provider {} is not supported", provider.name)));
    }
    let mut sources: Vec<PathBuf> =
        auth.client_certificate.iter().chain(auth.client_key.iter()).map(PathBuf::from).collect();
    if let Some(path) = auth.token_file.take().map(PathBuf::from) {
        auth.token = Some(files::token(&path)?.into());
        sources.push(path);
    }
    Ok(sources)
}

#[cfg(test)]
mod tests;
