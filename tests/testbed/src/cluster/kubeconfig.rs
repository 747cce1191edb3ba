//! Who may come to the API server, and the file that tells a program how.

use super::certs::{Pair, write_secret};
use anyhow::Result;
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The service account that `packaging/kubernetes/agent-rbac.yaml` gives its rights to, as the API server names it.
pub const AGENT_USER: &str = "system:serviceaccount:pilotfish:pilotfish-agent";

/// The users that the API server knows by token, from its start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May do everything.
    Admin,
    /// The agent, with the rights of the shipped RBAC manifest and nothing else.
    Agent,
    /// Somebody without any right.
    Stranger,
    ControllerManager,
    Scheduler,
    /// kubelet and kube-proxy of all nodes.
    Node,
}

impl User {
    pub(super) const ALL: [User; 6] =
        [User::Admin, User::Agent, User::Stranger, User::ControllerManager, User::Scheduler, User::Node];

    /// The name that the audit log has.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            User::Admin => "admin",
            User::Agent => AGENT_USER,
            User::Stranger => "stranger",
            User::ControllerManager => "testbed:controller-manager",
            User::Scheduler => "testbed:scheduler",
            User::Node => "testbed:node",
        }
    }

    /// The parts of the cluster itself may do everything: their rights are not what is tested.
    fn groups(self) -> &'static str {
        match self {
            User::Agent => "system:serviceaccounts,system:serviceaccounts:pilotfish",
            User::Stranger => "strangers",
            _ => "system:masters",
        }
    }

    pub(super) fn file_name(self) -> &'static str {
        match self {
            User::Admin => "admin",
            User::Agent => "agent",
            User::Stranger => "stranger",
            User::ControllerManager => "controller-manager",
            User::Scheduler => "scheduler",
            User::Node => "node",
        }
    }
}

/// The token file of the API server (`token,user,uid,"groups"`), and the tokens in the order of [`User::ALL`].
#[derive(Debug)]
pub(super) struct Tokens(Vec<(User, String)>);

impl Tokens {
    pub fn new() -> Result<Tokens> {
        let mut random = File::open("/dev/urandom")?;
        let mut token = || -> Result<String> {
            let mut bytes = [0_u8; 16];
            random.read_exact(&mut bytes)?;
            Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        };
        Ok(Tokens(User::ALL.into_iter().map(|user| Ok((user, token()?))).collect::<Result<_>>()?))
    }

    pub fn of(&self, user: User) -> &str {
        self.0.iter().find(|(known, _)| *known == user).map_or("", |(_, token)| token)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let lines = self
            .0
            .iter()
            .map(|(user, token)| format!("{token},{},{},\"{}\"\n", user.name(), user.name(), user.groups()));
        write_secret(path, &lines.collect::<String>())
    }
}

/// How a program proves who it is.
#[derive(Clone, Debug)]
pub(super) enum Credential<'a> {
    Token(&'a str),
    /// A file that is read again when its content changes.
    TokenFile(&'a Path),
    Certificate(&'a Pair),
}

/// Writes a kubeconfig (as JSON, which is YAML) for one server. The authority is named as a file,
/// so that it can be rotated.
pub(super) fn write(path: &Path, server: &str, authority: &Path, credential: &Credential) -> Result<PathBuf> {
    let user = match credential {
        Credential::Token(token) => json!({"token": token}),
        Credential::TokenFile(file) => json!({"tokenFile": file}),
        Credential::Certificate(pair) => {
            let (certificate, key) = (path.with_extension("crt"), path.with_extension("key"));
            pair.write(&certificate, &key)?;
            json!({"client-certificate": certificate, "client-key": key})
        }
    };
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "user"}}],
        "current-context": "testbed",
    });
    write_secret(path, &text.to_string())?;
    Ok(path.to_owned())
}
