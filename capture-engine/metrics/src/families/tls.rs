//! Handshakes of TLS. OpenTelemetry has attributes for them ("TLS") and no metric.

use super::family::{Duration, Family, GivesUp, Label, Seen, error};
use super::value::{Described, Set, Value, words};
use flow_model::{Outcome, TlsHandshake, Transport};

const VERSIONS: [&str; 5] = ["1.0", "1.1", "1.2", "1.3", "ssl3"];

/// IANA's registry "TLS Alerts"; those that end a handshake.
const ALERTS: [(u8, &str); 28] = [
    (0, "close_notify"),
    (10, "unexpected_message"),
    (20, "bad_record_mac"),
    (22, "record_overflow"),
    (40, "handshake_failure"),
    (42, "bad_certificate"),
    (43, "unsupported_certificate"),
    (44, "certificate_revoked"),
    (45, "certificate_expired"),
    (46, "certificate_unknown"),
    (47, "illegal_parameter"),
    (48, "unknown_ca"),
    (49, "access_denied"),
    (50, "decode_error"),
    (51, "decrypt_error"),
    (70, "protocol_version"),
    (71, "insufficient_security"),
    (80, "internal_error"),
    (86, "inappropriate_fallback"),
    (90, "user_canceled"),
    (109, "missing_extension"),
    (110, "unsupported_extension"),
    (112, "unrecognized_name"),
    (113, "bad_certificate_status_response"),
    (115, "unknown_psk_identity"),
    (116, "certificate_required"),
    (120, "no_application_protocol"),
    (121, "ech_required"),
];

/// Of one that nobody outside can read; behind those with a name.
const ENCRYPTED: &str = "encrypted_alert";

const ALERT_NAMES: [&str; ALERTS.len() + 1] = {
    let mut names = [ENCRYPTED; ALERTS.len() + 1];
    let mut i = 0;
    while i < ALERTS.len() {
        names[i] = ALERTS[i].1;
        i += 1;
    }
    names
};

pub(super) static FAMILY: Family = Family {
    name: "tls",
    always: false,
    transport: Transport::Tcp,
    labels: &[
        Label { name: "tls_client_server_name", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label { name: "tls_next_protocol", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label { name: "tls_protocol_version", set: Set::Words(&VERSIONS), over_cap: true, gives_up: GivesUp::Nothing },
    ],
    errors: Set::Words(&ALERT_NAMES),
    durations: &[Duration {
        name: "pilotfish_tls_handshake_duration_seconds",
        help: "Duration of TLS handshakes, from the first byte of the client's to the last byte before data.",
        seen: Seen::Anywhere,
    }],
    counters: &[],
};

pub(super) fn describe(outcome: Outcome, handshake: &TlsHandshake) -> Described<'_> {
    let TlsHandshake { sni, alpn, version, alert, alert_encrypted, .. } = handshake;
    let version = if version.is_empty() { Value::None } else { words(&VERSIONS, version) };
    let place = |alert: u8| ALERTS.iter().position(|(number, _)| *number == alert);
    let said = match alert.map(place) {
        None if *alert_encrypted => Value::Word(ALERTS.len() as u8),
        None => Value::None,
        Some(None) => Value::Other,
        Some(Some(place)) => Value::Word(place as u8),
    };
    Described::new([Value::free(sni), Value::free(alpn), version], error(outcome, said))
}
