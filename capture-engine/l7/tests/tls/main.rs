//! Handshakes of TLS as stories, and as generated ones that were cut, repeated, reordered and lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod properties;
mod stories;
#[path = "../support/mod.rs"]
mod support;
mod words;

use flow_model::{Detail, L7Record, Notes, Outcome};
use std::fmt::Write as _;

/// One line for a record, times in milliseconds.
fn line(record: &L7Record) -> String {
    let tls = match &record.detail {
        Detail::Tls(tls) => tls,
        // What was said before the handshake, where its protocol is known.
        Detail::Db(said) => return format!("{} {} {}", said.system, said.operation, record.outcome.as_str()),
        other => panic!("{other:?}"),
    };
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mut text = format!("{} {}", dash(&tls.sni), dash(tls.version));
    for number in [tls.cipher, tls.group] {
        let number = number.map_or("-".to_owned(), |number| format!("{number:#06x}"));
        write!(text, " {number}").unwrap();
    }
    write!(text, " {}", dash(&tls.alpn)).unwrap();
    if record.outcome == Outcome::Unanswered {
        text.push_str(" unanswered");
    }
    if let Some(alert) = tls.alert {
        write!(text, " alert {alert}").unwrap();
    }
    let ms = |at: flow_model::Ts| at.0 / 1_000_000;
    write!(text, " [{}..{}] {}>{}", ms(record.start), ms(record.end), record.request_bytes, record.response_bytes)
        .unwrap();
    let flags = [
        (tls.alert_encrypted, "alert_encrypted"),
        (tls.resumed, "resumed"),
        (tls.retried, "retried"),
        (tls.ech, "ech"),
    ];
    let notes = Notes::NAMES.iter().map(|(note, name)| (record.notes.has(*note), *name));
    for (_, name) in flags.into_iter().chain(notes).filter(|(is, _)| *is) {
        write!(text, " {name}").unwrap();
    }
    text
}
