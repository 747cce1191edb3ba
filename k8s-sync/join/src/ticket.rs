//! What a node needs to join: where the companion is, who signs its certificate, and the cluster's
//! token, or a credential that an admin has made for this node, or the file of a pod's own token. One
//! small file, `join.toml`.

use crate::hello::is_node_name;
use crate::token::Token;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of a file with a token.
const LARGEST: u64 = 64 << 10;

/// Name in the companion's certificate, where the file has no other.
pub const SERVER_NAME: &str = "companion.pilotfish.svc";

/// The contents of a `join.toml`.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// `host:port` of the companion's Service, or of a replica.
    pub address: String,
    /// The name that its certificate must have.
    pub server_name: ServerName<'static>,
    /// Trusts its CA and nobody else's.
    pub tls: Arc<ClientConfig>,
    /// The cluster's. One of the three is there.
    pub token: Option<Token>,
    /// Where the kubelet writes the token of the agent's pod, another one from time to time.
    pub token_file: Option<PathBuf>,
    /// A node's name, and the credential that is its own.
    pub own: Option<(String, Token)>,
}

/// A file that is no `join.toml`.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Not TOML, or a key is missing or of another type. The message names it.
    #[error("{0}")]
    Toml(String),
    /// What is wrong with a value.
    #[error("{key}: {what}")]
    Value {
        /// Which.
        key: &'static str,
        /// Why.
        what: String,
    },
}

/// Later versions may add keys: an agent that is older reads what it knows.
#[derive(Deserialize)]
struct File {
    address: String,
    ca: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
    node: Option<String>,
    credential: Option<String>,
    server_name: Option<String>,
}

impl Ticket {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// When a key is missing, or is not what it should be. The token is in no message.
    pub fn read(text: &str) -> Result<Ticket, TicketError> {
        // The message alone: the whole error shows the line, and the line may be the token's.
        let file: File = toml::from_str(text).map_err(|error| TicketError::Toml(error.message().to_owned()))?;
        let File { address, ca, token, token_file, node, credential, server_name } = file;
        let value = |key, what: &str| TicketError::Value { key, what: what.to_owned() };
        let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
        if !matches!(port, Some(Ok(1..))) {
            return Err(value("address", "must be host:port"));
        }
        let server_name = server_name.unwrap_or_else(|| SERVER_NAME.to_owned());
        let server_name =
            ServerName::try_from(server_name).map_err(|_| value("server_name", "is no name of a host"))?;
        let secret = |key: &'static str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                let token = Token::new(&text).ok_or_else(|| value(key, "must be 16 to 512 visible characters"));
                token.map(Some)
            }
        };
        let (token, credential) = (secret("token", token)?, secret("credential", credential)?);
        let own = match (node, credential) {
            (Some(node), Some(credential)) if is_node_name(&node) => Some((node, credential)),
            (Some(_), Some(_)) => return Err(value("node", "is no name of a Kubernetes node")),
            (None, Some(_)) => return Err(value("node", "is missing: whose the credential is")),
            (_, None) => None,
        };
        match &token_file {
            Some(_) if token.is_some() || own.is_some() => {
                return Err(value("token_file", "is there beside another token or credential"));
            }
            Some(file) if !file.is_absolute() => return Err(value("token_file", "must be an absolute path")),
            None if token.is_none() && own.is_none() => return Err(value("token", "is missing")),
            Some(_) | None => {}
        }
        Ok(Ticket { address, server_name, tls: trusting(&ca)?, token, token_file, own })
    }

    /// Whether there is something to show: the kubelet may not have written it.
    ///
    /// # Errors
    /// With what is wrong with `token_file`. The token is in no message.
    pub fn has_token(&self) -> Result<(), String> {
        self.token_file.as_deref().map_or(Ok(()), |file| projected(file).map(drop))
    }

    /// Whether it is for this node.
    ///
    /// # Errors
    /// With what to do, where its credential is another node's.
    pub fn is_for(&self, node: &str) -> Result<(), TicketError> {
        match &self.own {
            Some((other, _)) if other != node => {
                let what = format!("is \"{other}\", and this node is \"{node}\": take the file that was made for it");
                Err(TicketError::Value { key: "node", what })
            }
            _ => Ok(()),
        }
    }
}

/// The token of a pod, as it is now.
///
/// # Errors
/// With what is wrong with the file. The token is in no message.
pub(crate) fn projected(file: &Path) -> Result<Token, String> {
    let shown = file.display();
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read token_file {shown}: {error}"))?;
    Token::projected(&text).ok_or_else(|| format!("token_file {shown} has no token of a service account"))
}

fn trusting(ca: &str) -> Result<Arc<ClientConfig>, TicketError> {
    let wrong = |what: String| TicketError::Value { key: "ca", what };
    let mut roots = RootCertStore::empty();
    // Two while the CA is changed: the old one and the new one.
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(format!("is no PEM: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("has no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_pod_is_read_as_it_is_now_and_shown_in_no_message() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        assert!(projected(&file).unwrap_err().starts_with("cannot read token_file "));
        for (text, is_one) in [("aaaaaaaa.bbbbbbbb.cccccccc\n", true), ("not-a-token-of-a-pod", false), ("", false)] {
            std::fs::write(&file, text).unwrap();
            let read = projected(&file);
            assert_eq!(read.is_ok(), is_one, "{text}");
            assert!(read.is_ok() || !read.unwrap_err().contains("not-a-token-of-a-pod"));
        }
    }

    const TOKEN: &str = "a-token-of-this-test";

    fn fails(text: &str) -> String {
        let error = Ticket::read(text).unwrap_err().to_string();
        assert!(!error.contains(TOKEN), "{error}");
        error
    }

    #[test]
    fn a_file_that_is_wrong_says_where_and_never_shows_the_token() {
        let file = |address: &str, ca: &str, token: &str| {
            format!("address = \"{address}\"\nca = \"{ca}\"\ntoken = \"{token}\"\n")
        };
        assert_eq!(fails(&format!("token = \"{TOKEN}\"")), "missing field `address`");
        assert_eq!(fails("address = \"h:1\"\nca = \"\"\n"), "token: is missing");
        let of_pod =
            |file: &str, more: &str| fails(&format!("address = \"h:1\"\nca = \"\"\ntoken_file = \"{file}\"\n{more}"));
        assert_eq!(of_pod("token", ""), "token_file: must be an absolute path");
        let beside = "token_file: is there beside another token or credential";
        assert_eq!(of_pod("/t", &format!("token = \"{TOKEN}\"")), beside);
        assert_eq!(of_pod("/t", &format!("node = \"n1\"\ncredential = \"{TOKEN}\"")), beside);
        assert_eq!(of_pod("/t", ""), "ca: has no certificate");
        let own = |node: &str| fails(&format!("address = \"h:1\"\nca = \"\"\ncredential = \"{TOKEN}\"\n{node}"));
        assert_eq!(own(""), "node: is missing: whose the credential is");
        for node in ["N 1", "n\\u001b[2J", &"n".repeat(254)] {
            assert_eq!(own(&format!("node = \"{node}\"")), "node: is no name of a Kubernetes node");
        }
        fails(&format!("token = \"{TOKEN}"));
        fails(&format!("address = 5\nca = \"\"\ntoken = \"{TOKEN}\""));
        for address in ["", "host", ":443", "host:", "host:0", "host:99999"] {
            assert_eq!(fails(&file(address, "", TOKEN)), "address: must be host:port");
        }
        for token in ["", "short", "has a space in the middle", &"x".repeat(513)] {
            assert_eq!(fails(&file("h:1", "", token)), "token: must be 16 to 512 visible characters");
        }
        assert_eq!(fails(&file("h:1", "", TOKEN)), "ca: has no certificate");
        let odd = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n";
        assert!(fails(&file("h:1", odd, TOKEN)).starts_with("ca: "));
        let name = format!("{}server_name = \"no name\"\n", file("h:1", "", TOKEN));
        assert_eq!(fails(&name), "server_name: is no name of a host");
    }
}
