//! The name that a handshake of TLS gives to a server.

use crate::labels::Reporter;
use flow_model::{Detail, FlowInfo, L7Record, Outcome, TlsHandshake, Ts};
use std::net::IpAddr;

/// RFC 1035 section 2.3.4, as text.
const LONGEST: usize = 253;

/// The name, the server's address, and since when: all of the connection is with that server.
///
/// Only where the two agreed on keys: the client had its reasons not to refuse the server, while of
/// one that does not answer it may say anything. A server's pod learns nothing of others by it.
pub(crate) fn told<'a>(flow: &FlowInfo, record: &'a L7Record) -> Option<(&'a str, IpAddr, Ts)> {
    let Detail::Tls(handshake) = &record.detail else { return None };
    let TlsHandshake { sni, version, alert, alert_encrypted, .. } = handshake;
    let is_agreed = record.outcome == Outcome::Answered && !version.is_empty() && alert.is_none() && !alert_encrypted;
    let is_told = is_agreed && is_host_name(sni) && Reporter::of(flow) != Reporter::Server;
    let (_, server) = flow.client_server();
    is_told.then(|| (&**sni, server.ip, flow.opened.min(record.start)))
}

/// What a client asks for may be any bytes. A name is letters, digits, hyphens and underscores between
/// dots, and no address (RFC 6066 section 3).
fn is_host_name(name: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(is_fine) && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::is_host_name;

    #[test]
    fn names_of_hosts_are_names() {
        assert!(["api.example.com", "localhost", "_a.b-c.1"].iter().all(|name| is_host_name(name)));
        let long = "a".repeat(254);
        let odd = ["", "10.0.0.1", "::1", "a b", "a/b", "\u{fffd}", "ab\\", &long];
        assert!(!odd.iter().any(|name| is_host_name(name)));
    }
}
