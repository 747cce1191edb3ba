//! What a cluster's admin applies once: made here, printed, kept nowhere. The companion itself writes
//! none of it to the API server and holds no key of a CA.

use super::args::{SecretsArgs, Service};
use super::exit::Failure;
use super::files;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use join::{Ticket, Token};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Where the manifest of the agent's DaemonSet (packaging/kubernetes/agent) has the token of its pods.
const TOKEN_FILE: &str = "/var/run/secrets/pilotfish/token";

const TLS: &str = "kubernetes.io/tls";
const PRODUCT: &str = "pilotfish-companion";

/// A CA as PEM.
struct Authority {
    certificate: String,
    key: String,
}

/// The CA that this command makes. Expires not before its cluster does: nobody renews it, and who
/// replaces it runs this again.
fn params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = named("pilotfish-companion-ca");
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

impl Authority {
    fn new() -> Result<Authority, rcgen::Error> {
        let key = KeyPair::generate()?;
        Ok(Authority { certificate: params()?.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }

    /// Certificate and key of a server of these names.
    fn sign(&self, names: Vec<String>) -> Result<(String, String), rcgen::Error> {
        let issuer = Issuer::new(params()?, KeyPair::from_pem(&self.key)?);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("pilotfish-companion");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    }

    /// Whether whoever trusts this CA trusts the certificate. A CA of another make has another name,
    /// and the key may be another's.
    fn is_trusted(&self, certificate: &str, domain: &str) -> Option<()> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()?).ok()?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        let name = ServerName::try_from(domain.to_owned()).ok()?;
        verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).ok().map(drop)
    }
}

fn domain(service: &Service) -> String {
    format!("{}.{}.svc", service.name, service.namespace)
}

/// # Errors
/// A file that is none, or an address that nodes cannot dial.
pub fn secrets(args: &SecretsArgs) -> Result<String, Failure> {
    let SecretsArgs { service, address, ca, ca_key, token, trust } = args;
    let failed = |error: rcgen::Error| Failure::usage(format!("--ca, --ca-key: {error}"));
    let authority = match (ca, ca_key) {
        (Some(ca), Some(key)) => {
            Authority { certificate: files::text("--ca", ca)?, key: files::text("--ca-key", key)? }
        }
        _ => Authority::new().map_err(|error| Failure::software(error.to_string()))?,
    };
    let domain = domain(service);
    let (chain, key) = authority.sign(vec![domain.clone(), format!("{domain}.cluster.local")]).map_err(failed)?;
    let strange = || Failure::usage("--ca, --ca-key: are no CA that this command has made, with its key");
    authority.is_trusted(&chain, &domain).ok_or_else(strange)?;
    let token = match token {
        Some(path) => files::text("--token", path)?.trim_end_matches('\n').to_owned(),
        None => random()?,
    };
    if Token::new(&token).is_none() {
        return Err(Failure::usage("--token: must be one line of 16 to 512 visible characters"));
    }
    // Of the text that an agent reads: what it refuses is no ticket.
    let ca = match trust {
        None => authority.certificate.clone(),
        Some(path) => authority.certificate.clone() + &trusted(path)?,
    };
    let ticket = |what: &str, value: &str| {
        let text = format!("address = {address:?}\nserver_name = {domain:?}\n{what} = {value:?}\nca = '''\n{ca}'''\n");
        Ticket::read(&text).map(|_| text).map_err(|error| Failure::usage(format!("--{error}")))
    };
    let (of_node, of_pod) = (ticket("token", &token)?, ticket("token_file", TOKEN_FILE)?);

    // What nodes get is applied alone while the CA is changed.
    let (server, join) = ("server", "join");
    let tls = |certificate: &str, key: &str| [("tls.crt", certificate.to_owned()), ("tls.key", key.to_owned())];
    let opaque = [("token", token), ("join.toml", of_node)];
    let items = [
        secret(metadata(service, "companion-ca", server), TLS, tls(&authority.certificate, &authority.key)),
        secret(metadata(service, "companion-tls", server), TLS, tls(&chain, &key)),
        secret(metadata(service, "pilotfish-join", join), "Opaque", opaque),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": metadata(service, "pilotfish-agent-join", join), "data": { "join.toml": of_pod },
        }),
    ];
    Ok(shown(&json!({ "apiVersion": "v1", "kind": "List", "items": items })))
}

/// Certificates alone, at least one.
fn trusted(path: &Path) -> Result<String, Failure> {
    let text = files::text("--trust", path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let is_one = all.is_ok_and(|all| !all.is_empty()) && !text.contains("PRIVATE KEY");
    is_one.then_some(text).ok_or_else(|| Failure::usage("--trust: has no certificate, or more than certificates"))
}

fn metadata(service: &Service, name: &str, component: &str) -> Value {
    let labels = json!({ "app.kubernetes.io/name": PRODUCT, "app.kubernetes.io/component": component });
    json!({ "name": name, "namespace": service.namespace, "labels": labels })
}

fn secret(metadata: Value, kind: &str, data: [(&str, String); 2]) -> Value {
    let data: serde_json::Map<String, Value> =
        data.into_iter().map(|(name, text)| (name.to_owned(), STANDARD.encode(text).into())).collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data })
}

fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::software("the system has no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// JSON is YAML.
pub(super) fn shown(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(address: &str) -> SecretsArgs {
        let service = Service { namespace: "pilotfish".to_owned(), name: "companion".to_owned() };
        SecretsArgs { service, address: address.to_owned(), ca: None, ca_key: None, token: None, trust: None }
    }

    fn data(list: &str, item: usize, name: &str) -> String {
        let list: Value = serde_json::from_str(list).unwrap();
        let text = list["items"][item]["data"][name].as_str().unwrap();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn what_is_printed_is_what_an_agent_reads_and_a_server_shows() {
        let list = secrets(&args("10.96.0.7:10251")).unwrap();
        let ticket = Ticket::read(&data(&list, 2, "join.toml")).unwrap();
        assert_eq!(ticket.address, "10.96.0.7:10251");
        assert_eq!(ticket.token.unwrap().secret(), data(&list, 2, "token"));
        companion::serve::Certificate::new(&data(&list, 1, "tls.crt"), &data(&list, 1, "tls.key")).unwrap();
        let other = secrets(&args("10.96.0.7:10251")).unwrap();
        assert_ne!(data(&list, 2, "token"), data(&other, 2, "token"));
    }

    #[test]
    fn agents_that_are_pods_have_the_same_companion_and_no_token_of_the_cluster() {
        let list = secrets(&args("10.96.0.7:10251")).unwrap();
        let token = data(&list, 2, "token");
        let list: Value = serde_json::from_str(&list).unwrap();
        let text = list["items"][3]["data"]["join.toml"].as_str().unwrap();
        let ticket = Ticket::read(text).unwrap();
        assert_eq!(ticket.address, "10.96.0.7:10251");
        assert_eq!(ticket.token_file.as_deref(), Some(std::path::Path::new(TOKEN_FILE)));
        assert!(ticket.token.is_none() && !text.contains(&token));
        // Where the pod has it, and what the pod calls this.
        let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/kubernetes/agent/agent.yaml");
        let manifests = std::fs::read_to_string(manifests).unwrap();
        let (directory, file) = TOKEN_FILE.rsplit_once('/').unwrap();
        for part in
            [format!("mountPath: {directory}\n"), format!("path: {file}\n"), "name: pilotfish-agent-join\n".into()]
        {
            assert!(manifests.contains(&part), "{part}");
        }
    }

    #[test]
    fn a_ca_and_a_token_that_are_given_stay() {
        let dir = tempfile::tempdir().unwrap();
        let first = secrets(&args("h:1")).unwrap();
        let file = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let ca = file("ca", data(&first, 0, "tls.crt"));
        let ca_key = file("key", data(&first, 0, "tls.key"));
        let token = file("token", data(&first, 2, "token") + "\n");
        let again = secrets(&SecretsArgs { ca: ca.clone(), ca_key, token, ..args("h:1") }).unwrap();
        assert_eq!(data(&first, 2, "join.toml"), data(&again, 2, "join.toml"));
        assert_ne!(data(&first, 1, "tls.crt"), data(&again, 1, "tls.crt"));
        // Half of a CA is none, and neither are halves of two.
        let other = file("other", data(&secrets(&args("h:1")).unwrap(), 0, "tls.key"));
        for ca_key in [ca.clone(), other] {
            let wrong = SecretsArgs { ca_key, ca: ca.clone(), ..args("h:1") };
            assert!(secrets(&wrong).unwrap_err().to_string().starts_with("--ca, --ca-key: "));
        }
        // Nodes trust the one before, too, and the key of no CA comes to them.
        let next = secrets(&SecretsArgs { trust: ca.clone(), ..args("h:1") }).unwrap();
        let join = data(&next, 2, "join.toml");
        assert!(join.contains(&(data(&next, 0, "tls.crt") + &data(&first, 0, "tls.crt"))), "{join}");
        for wrong in
            [file("none", "hello".to_owned()), file("both", data(&first, 0, "tls.crt") + &data(&first, 0, "tls.key"))]
        {
            let failure = secrets(&SecretsArgs { trust: wrong, ..args("h:1") }).unwrap_err();
            assert!(failure.to_string().starts_with("--trust: "), "{failure}");
        }
    }

    #[test]
    fn an_address_that_nobody_can_dial_is_refused() {
        for address in ["", "h", "h:", ":1", "h:0"] {
            assert_eq!(secrets(&args(address)).unwrap_err().to_string(), "--address: must be host:port");
        }
    }
}
