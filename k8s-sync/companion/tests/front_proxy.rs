//! Who may call the aggregated API, over real TLS connections: nobody before it is known who the
//! front proxy is, then the front proxy alone, and after a change of its CA only the new one.
#![forbid(unsafe_code)]

use companion::apis::FrontProxy;
use companion::apis::metrics::Groups;
use companion::serve::{Api, Certificate, Push};
use companion::{Config, Fleet};
use join::{Me, Token};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

const NAME: &str = "companion.pilotfish.svc";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pair(&self, common_name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn front_proxy(&self) -> FrontProxy {
        FrontProxy {
            ca: self.0.pem(),
            allowed_names: vec!["front-proxy-client".to_owned()],
            user_headers: vec!["X-Remote-User".to_owned()],
        }
    }
}

struct Bed {
    api: Arc<Api>,
    ca: Authority,
    address: SocketAddr,
    _stop: tokio_util::sync::DropGuard,
}

impl Bed {
    async fn new() -> Bed {
        let ca = Authority::new();
        let (chain, key) = ca.pair("companion", ExtendedKeyUsagePurpose::ServerAuth);
        let fleet = Arc::new(Mutex::new(Fleet::new(Me::new("0.2.0", 1), Config::default())));
        let push = Arc::new(Push::new(fleet, Token::new("the-token-of-this-cluster").unwrap().hash()));
        let api = Arc::new(Api::new(Certificate::new(&chain, &key).unwrap(), push).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(api.clone().run(listener, stop.clone()));
        Bed { api, ca, address, _stop: stop.drop_guard() }
    }

    /// A connection that shows this certificate, if one.
    async fn connect(&self, shown: Option<(String, String)>) -> io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.0.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        let tcp = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), tcp).await
    }

    /// The status of an answer; an error where the handshake or the connection fails.
    async fn status(&self, path: &str, shown: Option<(String, String)>) -> io::Result<u16> {
        ask(&mut self.connect(shown).await?, path).await
    }
}

async fn ask(tls: &mut TlsStream<TcpStream>, path: &str) -> io::Result<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: companion\r\nX-Remote-User: bob\r\n\r\n");
    tls.write_all(request.as_bytes()).await?;
    // "HTTP/1.1 200": what follows is not read.
    let mut head = [0; 12];
    tls.read_exact(&mut head).await?;
    String::from_utf8_lossy(&head[9..]).parse().map_err(io::Error::other)
}

const FIGURE: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/api/http_requests_per_second";
const GROUP: &str = "/apis/traffic.pilotfish.io/v1alpha1";

#[tokio::test]
async fn nobody_is_answered_before_it_is_known_who_the_front_proxy_is() {
    let (bed, proxy_ca) = (Bed::new().await, Authority::new());
    let right = || Some(proxy_ca.pair("front-proxy-client", ExtendedKeyUsagePurpose::ClientAuth));
    assert_eq!(bed.status(GROUP, right()).await.unwrap(), 503);
    assert_eq!(bed.status(GROUP, None).await.unwrap(), 503);
    bed.api.set_front_proxy(proxy_ca.front_proxy()).unwrap();
    assert_eq!(bed.status(GROUP, right()).await.unwrap(), 200);
    // Nor is anybody else afterwards.
    assert_eq!(bed.status(GROUP, None).await.unwrap(), 401);
    let other_name = proxy_ca.pair("admin", ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(bed.status(GROUP, Some(other_name)).await.unwrap(), 401);
    let other_ca = Authority::new().pair("front-proxy-client", ExtendedKeyUsagePurpose::ClientAuth);
    assert!(bed.status(GROUP, Some(other_ca)).await.is_err());
}

#[tokio::test]
async fn figures_are_for_the_front_proxy_alone_and_only_where_they_are_switched_on() {
    let (bed, proxy_ca) = (Bed::new().await, Authority::new());
    bed.api.set_front_proxy(proxy_ca.front_proxy()).unwrap();
    let right = || Some(proxy_ca.pair("front-proxy-client", ExtendedKeyUsagePurpose::ClientAuth));
    assert_eq!(bed.status("/apis/custom.metrics.k8s.io", right()).await.unwrap(), 404);
    bed.api.set_figures(Groups { custom: true, external: false }, Arc::default());
    assert_eq!(bed.status("/apis/custom.metrics.k8s.io/v1beta2", right()).await.unwrap(), 200);
    assert_eq!(bed.status("/apis/external.metrics.k8s.io/v1beta1", right()).await.unwrap(), 404);
    assert_eq!(bed.status(FIGURE, None).await.unwrap(), 401);
    let other_name = proxy_ca.pair("admin", ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(bed.status(FIGURE, Some(other_name)).await.unwrap(), 401);
    // It is not known where pods run.
    assert_eq!(bed.status(FIGURE, right()).await.unwrap(), 404);
    let [.., told, incomplete, none] = bed.api.metrics().map(|metric| metric.value);
    assert!([told, incomplete, none] == [0.0, 1.0, 0.0], "{told} {incomplete} {none}");
}

#[tokio::test]
async fn what_an_old_ca_has_signed_is_worth_nothing_after_it_changed() {
    let (bed, old, new) = (Bed::new().await, Authority::new(), Authority::new());
    let client = |ca: &Authority| Some(ca.pair("front-proxy-client", ExtendedKeyUsagePurpose::ClientAuth));
    bed.api.set_front_proxy(old.front_proxy()).unwrap();
    let mut open = bed.connect(client(&old)).await.unwrap();
    assert_eq!(ask(&mut open, GROUP).await.unwrap(), 200);
    // Told again, as after each restart of the API server.
    bed.api.set_front_proxy(old.front_proxy()).unwrap();
    let mut second = bed.connect(client(&old)).await.unwrap();
    assert_eq!(ask(&mut second, GROUP).await.unwrap(), 200);
    // What is no CA changes nothing either.
    let none =
        FrontProxy { ca: "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----".to_owned(), ..old.front_proxy() };
    assert!(bed.api.set_front_proxy(none).is_err());
    assert_eq!(bed.status(GROUP, client(&old)).await.unwrap(), 200);

    bed.api.set_front_proxy(new.front_proxy()).unwrap();
    for connection in [&mut open, &mut second] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), connection.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a connection of the old front proxy stays open");
    }
    assert!(bed.status(GROUP, client(&old)).await.is_err());
    assert_eq!(bed.status(GROUP, client(&new)).await.unwrap(), 200);
    // Probes have no certificate.
    assert_eq!(bed.status("/readyz", None).await.unwrap(), 200);
}
