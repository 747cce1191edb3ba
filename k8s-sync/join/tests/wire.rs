//! The bytes of protocol 1, as its first version wrote them. They never change: what is added is
//! added as fields that older versions pass over.

use bytes::Bytes;
use join::message::{
    Ack, Answers, Bye, Entry, Figure, Finding, Findings, FromAgent, FromCompanion, Hello, Hurt, Part, Period, Resync,
    Says, Sees, Severity, Value, Welcome,
};
use prost::Message;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn messages_of_an_agent_have_the_bytes_that_they_always_had() {
    let check = |says: Says, bytes: &str| assert_eq!(hex(&FromAgent::from(says).encode_to_vec()), bytes);
    let (version, node) = ("0.2.0".to_owned(), "n1".to_owned());
    check(
        Says::Hello(Hello {
            oldest: 1,
            newest: 1,
            version,
            node,
            instance: 0x1122_3344_5566_7788,
            hops: 1,
            credential: Bytes::new(),
        }),
        "0a1a080110011a05302e322e3022026e312988776655443322113001",
    );
    let entries = Bytes::from_static(b"\x03");
    let part = Part { generation: 7, since: 6, number: 1, last: true, entries, sees: 0 };
    check(Says::Part(part.clone()), "120b08071006180120012a0103");
    let sees = Sees::All.into();
    check(Says::Part(Part { sees, ..part }), "120d08071006180120012a01033003");
    check(Says::Bye(Bye { code: 77, text: "why".to_owned() }), "1a07084d1203776879");
}

/// What was added for credentials: a version before passes over it.
#[test]
fn a_credential_is_a_field_more() {
    let hello = Hello { credential: Bytes::from_static(&[7; 2]), hops: 1, ..Hello::default() };
    assert_eq!(hex(&hello.encode_to_vec()), "30013a020707");
    let welcome = Welcome { credential: true, protocol: 1, ..Welcome::default() };
    assert_eq!(hex(&welcome.encode_to_vec()), "08014001");
}

/// What was added for findings.
#[test]
fn findings_are_a_message_more() {
    let check = |says: Says, bytes: &str| assert_eq!(hex(&FromAgent::from(says).encode_to_vec()), bytes);
    let entries = Bytes::from_static(b"\x03");
    check(Says::Findings(Findings { now_ms: 300, entries }), "2a0608ac02120103");
    let figures = [("a", Value::Count(1)), ("b", Value::Number(0.5)), ("c", Value::Text("t".to_owned()))];
    let figure = |(name, value): (&str, Value)| Figure { name: name.to_owned(), value: Some(value) };
    let finding = Finding {
        id: "i".to_owned(),
        severity: Severity::Error.into(),
        namespace: "n".to_owned(),
        kind: "k".to_owned(),
        workload: "w".to_owned(),
        since_ms: 7,
        likely: true,
        summary: "s".to_owned(),
        evidence: figures.map(figure).to_vec(),
        hurt: vec![Hurt { client: "c".to_owned(), requests: 9 }],
        remedy: vec!["r".to_owned()],
    };
    let bytes = "0a0169 1003 1a016e 22016b 2a0177 3007 3801 420173 4a050a01611001 4a0c0a016219000000000000e03f 4a060a0163220174 52050a01631009 5a0172";
    assert_eq!(hex(&finding.encode_to_vec()), bytes.replace(' ', ""));
    let welcome = Welcome { findings: true, protocol: 1, ..Welcome::default() };
    assert_eq!(hex(&welcome.encode_to_vec()), "08014801");
}

/// As a version before them reads it.
#[test]
fn a_message_that_is_not_known_is_none() {
    // Field 15, of two bytes.
    assert_eq!(FromAgent::decode(&b"\x7a\x02\x08\x01"[..]).unwrap(), FromAgent { says: None });
}

#[test]
fn an_entry_has_the_bytes_that_it_always_had() {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let entry = Entry { id: 300, key, value, gone: true };
    assert_eq!(hex(&entry.encode_length_delimited_to_vec()), "0b08ac0212016b1a01762001");
}

#[test]
fn messages_of_a_companion_have_the_bytes_that_they_always_had() {
    let check = |answers: Answers, bytes: &str| assert_eq!(hex(&FromCompanion::from(answers).encode_to_vec()), bytes);
    let version = "0.2.0".to_owned();
    check(
        Answers::Welcome(Welcome {
            protocol: 1,
            version,
            instance: 5,
            generation: 9,
            period_ms: 10_000,
            replicas: Vec::new(),
            names: false,
            credential: false,
            findings: false,
        }),
        "0a1708011205302e322e30190500000000000000200928904e",
    );
    check(Answers::Ack(Ack { generation: 9, refused: 2, replicas: Vec::new() }), "120408091002");
    let replicas = vec!["10.0.0.7:1".to_owned()];
    check(Answers::Ack(Ack { generation: 9, refused: 2, replicas }), "1210080910021a0a31302e302e302e373a31");
    check(Answers::Resync(Resync {}), "1a00");
    check(Answers::Period(Period { period_ms: 2_000 }), "220308d00f");
}
