//! A handshake of TLS, with the names of IANA's registry "TLS Parameters".

use flow_model::{TlsHandshake, TlsOffer};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Handshake<'a> {
    #[serde(rename = "tls.client.server_name", skip_serializing_if = "str::is_empty")]
    sni: &'a str,
    #[serde(rename = "tls.next_protocol", skip_serializing_if = "str::is_empty")]
    alpn: &'a str,
    #[serde(rename = "tls.protocol.version", skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(rename = "tls.cipher", skip_serializing_if = "Option::is_none")]
    cipher: Option<String>,
    #[serde(rename = "tls.curve", skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(rename = "tls.resumed", skip_serializing_if = "is_false")]
    resumed: bool,
    /// A HelloRetryRequest was seen.
    #[serde(rename = "tls.retried", skip_serializing_if = "is_false")]
    retried: bool,
    #[serde(rename = "tls.client.ech", skip_serializing_if = "is_false")]
    ech: bool,
    /// The number of RFC 8446 section 6.
    #[serde(rename = "tls.alert", skip_serializing_if = "Option::is_none")]
    alert: Option<u8>,
    #[serde(rename = "tls.alert_encrypted", skip_serializing_if = "is_false")]
    alert_encrypted: bool,
    #[serde(flatten)]
    offer: Option<Offer<'a>>,
}

#[derive(Debug, Serialize)]
struct Offer<'a> {
    #[serde(rename = "tls.client.offered_protocols", skip_serializing_if = "<[_]>::is_empty")]
    protocols: &'a [Box<str>],
    #[serde(rename = "tls.client.offered_versions", skip_serializing_if = "Vec::is_empty")]
    versions: Vec<String>,
    #[serde(rename = "tls.client.offered_curves", skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
}

impl<'a> Handshake<'a> {
    pub(super) fn new(handshake: &'a TlsHandshake) -> Handshake<'a> {
        let TlsHandshake { sni, alpn, version, alert, alert_encrypted, cipher, group, resumed, retried, ech, offer } =
            handshake;
        Handshake {
            sni,
            alpn,
            version,
            cipher: cipher.map(|cipher| name(&CIPHERS, cipher)),
            group: group.map(|group| name(&GROUPS, group)),
            resumed: *resumed,
            retried: *retried,
            ech: *ech,
            alert: *alert,
            alert_encrypted: *alert_encrypted,
            offer: offer.as_deref().map(Offer::new),
        }
    }
}

impl<'a> Offer<'a> {
    fn new(offer: &'a TlsOffer) -> Offer<'a> {
        let TlsOffer { protocols, versions, groups } = offer;
        let named =
            |names: &[(u16, &str)], numbers: &[u16]| numbers.iter().map(|number| name(names, *number)).collect();
        Offer { protocols, versions: named(&VERSIONS, versions), groups: named(&GROUPS, groups) }
    }
}

fn is_false(is: &bool) -> bool {
    !is
}

fn name(names: &[(u16, &str)], number: u16) -> String {
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{number:#06x}"),
    }
}

const VERSIONS: [(u16, &str); 5] =
    [(0x0300, "ssl3"), (0x0301, "1.0"), (0x0302, "1.1"), (0x0303, "1.2"), (0x0304, "1.3")];

/// Those that are met; others are shown by their numbers.
const CIPHERS: [(u16, &str); 37] = [
    (0x0004, "TLS_RSA_WITH_RC4_128_MD5"),
    (0x0005, "TLS_RSA_WITH_RC4_128_SHA"),
    (0x000a, "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA"),
    (0x0033, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA"),
    (0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA"),
    (0x0039, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA"),
    (0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256"),
    (0x003d, "TLS_RSA_WITH_AES_256_CBC_SHA256"),
    (0x0067, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0x006b, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"),
    (0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256"),
    (0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384"),
    (0x009e, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0x1304, "TLS_AES_128_CCM_SHA256"),
    (0x1305, "TLS_AES_128_CCM_8_SHA256"),
    (0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (0xc011, "TLS_ECDHE_RSA_WITH_RC4_128_SHA"),
    (0xc012, "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    (0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    (0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
    (0xc024, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"),
    (0xc027, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0xc028, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
    (0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xccaa, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

const GROUPS: [(u16, &str); 15] = [
    (0x0017, "secp256r1"),
    (0x0018, "secp384r1"),
    (0x0019, "secp521r1"),
    (0x001d, "x25519"),
    (0x001e, "x448"),
    (0x0100, "ffdhe2048"),
    (0x0101, "ffdhe3072"),
    (0x0102, "ffdhe4096"),
    (0x0103, "ffdhe6144"),
    (0x0104, "ffdhe8192"),
    (0x0201, "MLKEM768"),
    (0x11eb, "SecP256r1MLKEM768"),
    (0x11ec, "X25519MLKEM768"),
    (0x11ed, "SecP384r1MLKEM1024"),
    (0x6399, "X25519Kyber768Draft00"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_numbers_have_names_and_others_are_shown() {
        assert_eq!(name(&CIPHERS, 0x1301), "TLS_AES_128_GCM_SHA256");
        assert_eq!(name(&CIPHERS, 0x0013), "0x0013");
    }
}
