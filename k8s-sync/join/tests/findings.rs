//! Findings on their way: told when they change, within bounds, and read whoever wrote them.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use join::PackError;
use join::findings::{Outbox, read};
use join::limits::{FINDING, FINDINGS, MESSAGE, PART};
use join::message::{Finding, Findings, FromAgent, Hurt, Says};
use proptest::prelude::*;
use prost::Message;
use std::io::Write;

fn deflated(plain: &[u8]) -> Bytes {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap().into()
}

fn finding(workload: &str, summary: usize) -> Finding {
    let (id, summary) = ("udp-drop".to_owned(), "x".repeat(summary));
    Finding { id, workload: workload.to_owned(), summary, ..Finding::default() }
}

fn told(findings: Vec<Finding>) -> Outbox {
    let mut outbox = Outbox::default();
    outbox.tell(5, &findings.into());
    outbox
}

#[test]
fn a_change_is_told_and_the_same_again_is_not() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.version(), 0);
    let mut after = |now_ms, findings: &[Finding]| {
        outbox.tell(now_ms, &findings.into());
        (outbox.version(), outbox.len())
    };
    // That there is none is news.
    assert_eq!(after(1, &[]), (1, 0));
    assert_eq!(after(2, &[finding("api", 1)]), (2, 1));
    assert_eq!(after(3, &[finding("api", 1)]), (2, 1));
    assert_eq!(after(4, &[finding("api", 2)]), (3, 1));
    let message = outbox.message();
    assert_eq!((message.now_ms, read(&message)), (4, Ok((vec![finding("api", 2)], 0))));
}

#[test]
fn what_does_not_fit_is_left_out_and_counted_and_the_message_stays_small() {
    let mut all: Vec<Finding> = (0..FINDINGS + 7).map(|n| finding(&n.to_string(), 10)).collect();
    all.insert(3, finding("large", FINDING));
    let outbox = told(all.clone());
    all.remove(3);
    all.truncate(FINDINGS);
    assert_eq!((outbox.len(), outbox.lost()), (FINDINGS, 8));
    assert_eq!(read(&outbox.message()), Ok((all, 0)));
    let outbox = told((0..FINDINGS).map(|n| finding(&n.to_string(), FINDING - 100)).collect());
    assert!(outbox.len() < FINDINGS && outbox.len() + outbox.lost() as usize == FINDINGS);
    assert!(FromAgent::from(Says::Findings(outbox.message())).encoded_len() < MESSAGE);
}

#[test]
fn a_message_that_holds_more_than_it_may_takes_no_more_memory_than_that() {
    let of = |plain: &[u8]| read(&Findings { now_ms: 0, entries: deflated(plain) });
    let many: Vec<u8> = (0..FINDINGS + 5).flat_map(|_| finding("a", 1).encode_length_delimited_to_vec()).collect();
    assert_eq!(of(&many).map(|(all, more)| (all.len(), more)), Ok((FINDINGS, 5)));
    assert_eq!(of(&finding("a", FINDING).encode_length_delimited_to_vec()), Ok((Vec::new(), 1)));
    assert_eq!(of(&vec![0; PART + 1]), Err(PackError::Part));
    assert_eq!(of(&[7, 1]), Err(PackError::Damaged));
    assert_eq!(of(&[0xff; 11]), Err(PackError::Damaged));
    // Two bytes for each client: as many as a finding of this length has.
    let hurt = vec![Hurt::default(); FINDING / 2 - 8];
    let crowd = Finding { hurt, ..Finding::default() };
    assert!(of(&crowd.encode_length_delimited_to_vec()).is_ok());
}

proptest! {
    #[test]
    fn bytes_that_nobody_packed_are_refused_or_read(
        bytes in proptest::collection::vec(any::<u8>(), 0..2_000), pack in any::<bool>(),
    ) {
        let entries = if pack { deflated(&bytes) } else { bytes.into() };
        if let Ok((findings, _)) = read(&Findings { now_ms: 0, entries }) {
            prop_assert!(findings.len() <= FINDINGS);
        }
    }
}
