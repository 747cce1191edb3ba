//! The table of walked connections: what is told of each packet, written by hand. A frame is any
//! byte, then a letter that says its length (`C`: 3 bytes in all, `Z`: 26); 4 bytes of it are copied,
//! but nothing of one that begins with `-`.

use super::walks::{Told, Walking};
use super::{Packet, Script};
use l7::{Length, Walk};
use std::fmt::Write;

pub static LETTERS: Walk = Walk {
    length: Length::Fixed { at: 1, width: 1, big_endian: true },
    header: 2,
    uncounted: -64,
    kind: Some((0, 0xff)),
    classes: &[(1, b"-")],
    keep: [4, 0, 4, 4],
    most: 64,
    aligned: false,
    rows: false,
    runs: false,
};

/// The client's and the server's number of the first byte that is walked.
const FIRST: [u32; 2] = [101, 501];

/// What follows is walked.
const BEFORE: &str = "
    c S 94
    s SA 494 95
    c A 95 495 before
    s A 495 101 before
";

/// As `c3 @101 skip 22 aZbc rest 22`: who, in what message, the sequence number of the first byte
/// that was copied; how many before it and behind it were left out. `first`: of its message.
pub fn text(told: &[Told]) -> String {
    let mut text = String::new();
    for Told { from_client, turn, seq, first, wire_len, walked, bytes } in told {
        write!(text, "{}{turn} @{seq}", if *from_client { 'c' } else { 's' }).unwrap();
        if walked.skipped > 0 {
            write!(text, " skip {}", walked.skipped).unwrap();
        }
        write!(text, " [{}]", String::from_utf8_lossy(bytes)).unwrap();
        let rest = *wire_len as usize - bytes.len();
        if rest > 0 {
            write!(text, " rest {rest}").unwrap();
        }
        let notes = [(*first, "first"), (walked.astray, "astray"), (walked.tail, "tail")];
        for (_, note) in notes.iter().filter(|(is, _)| *is) {
            write!(text, " {note}").unwrap();
        }
        text.push('\n');
    }
    text
}

/// Runs the table through `run`, which tells of the packets that are walked.
#[track_caller]
pub fn check(mut run: impl FnMut(Walking<'_>) -> Vec<Told>) {
    let before = packets(BEFORE);
    let mut wrong = String::new();
    for (name, script, expected) in TABLE {
        let all = [before.clone(), packets(script)].concat();
        let lines = |text: &str| text.lines().map(|line| format!("    {}\n", line.trim())).collect::<String>();
        let told = run(Walking { packets: &all, from: before.len(), walk: &LETTERS, headers: FIRST });
        let (told, expected) = (lines(&text(&told)), lines(expected.trim()));
        if told != expected {
            write!(wrong, "{name}:\n{}told:\n{told}instead of:\n{expected}\n", lines(script)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn packets(script: &'static str) -> Vec<Packet> {
    Script { name: "", rule: "", packets: script, told: "" }.packets()
}

/// An answer of 1,000 frames of 10 bytes, of which four of a packet are followed: what its end is told
/// by, and what of it is told.
#[track_caller]
pub fn check_rows(mut run: impl FnMut(Walking<'_>) -> Vec<Told>) {
    static ROWS: Walk = Walk { most: 4, aligned: true, rows: true, ..LETTERS };
    let rows: Vec<u8> = (0..1000).flat_map(|row| format!("rJ{row:08}").into_bytes()).collect();
    for (end, last) in [("c A 107 10501 aD34", 10_000), ("s FA 10501 107", 10_000), ("c A 107 10531 aD34", 10_030)] {
        let mut all = packets(BEFORE);
        let from = all.len();
        all.extend(packets("c A 101 501 aF3456"));
        for (number, payload) in (0u32..).zip(rows.chunks(2500)) {
            let (seq, payload) = (501 + number * 2500, payload.to_vec());
            all.push(Packet { from_client: false, flags: "A", seq, ack: 107, window: 64_000, payload });
        }
        let mut stream = rows.clone();
        if last > stream.len() {
            // What is shorter than the end that is kept is told whole.
            let more = packets("s A 10501 107 rJ00001000rJ00001001rJ00001002");
            stream.extend(&more[0].payload);
            all.extend(more);
        }
        all.extend(packets(end));
        all.extend(packets("c FA 107 10502"));
        let told = run(Walking { packets: &all, from, walk: &ROWS, headers: FIRST });
        let answer: Vec<&Told> = told.iter().filter(|told| !told.from_client && !told.bytes.is_empty()).collect();
        let mut next = 501;
        for told in &answer {
            // No byte of it is missing: all are copied, or left out.
            assert_eq!(told.seq - told.walked.skipped, next, "{end}: {}", text(std::slice::from_ref(told)));
            let at = (told.seq - 501) as usize;
            assert_eq!(told.bytes, stream[at..at + told.bytes.len()], "{end}");
            next = told.seq + told.wire_len;
        }
        assert_eq!(next as usize, 501 + last, "{end}: to its end");
        let tails: Vec<(usize, bool)> = answer.iter().map(|told| (told.bytes.len(), told.walked.tail)).collect();
        let expected = [(34, false), (256, true), (30, true)];
        assert_eq!(tails, expected[..if last > 10_000 { 3 } else { 2 }], "{end}");
        let place = |from_client: bool| told.iter().rposition(|told| told.from_client == from_client);
        assert!(!end.starts_with('c') || place(false) < place(true), "{end}: before what follows it");
    }
}

const TABLE: [(&str, &str, &str); 15] = [
    (
        "a frame's beginning is copied, and its rest is known to be left out",
        "c A 101 501 aZ1234567890123456789012aC3",
        "c3 @101 [aZ1234567890123456789012aC3] first",
    ),
    (
        "the rest of a frame makes no record before its end, which is told",
        "c A 101 501 aZ12345678
         c A 111 501 90123
         c A 116 501 45678901234",
        "c3 @101 [aZ12] rest 6 first
         c3 @127 skip 16 []",
    ),
    (
        "what was left out is told with the next header",
        "c A 101 501 aZ12345678
         c A 111 501 90123
         c A 116 501 45678901234bD34",
        "c3 @101 [aZ12] rest 6 first
         c3 @127 skip 16 [bD34]",
    ),
    (
        "a header that was cut between two packets is read",
        "c A 101 501 aD34b
         c A 106 501 Z12345678",
        "c3 @101 [aD34b] first
         c3 @106 [Z12] rest 6",
    ),
    (
        "behind a cut header, too, nothing is copied of a frame that is not wanted",
        "c A 101 501 aD34-
         c A 106 501 Z123456789012345678901234bD34",
        "c3 @101 [aD34-] first
         c3 @131 skip 25 [bD34]",
    ),
    (
        "the end of such a frame is told",
        "c A 101 501 aD34-
         c A 106 501 Z1234567890
         c A 117 501 12345678901234",
        "c3 @101 [aD34-] first
         c3 @131 skip 25 []",
    ),
    (
        "a header that comes again with its rest is told once",
        "c A 101 501 aD34-
         c A 105 501 -Z123456789012345678901234bD34",
        "c3 @101 [aD34-] first
         c3 @131 skip 25 [bD34]",
    ),
    (
        "what is to be copied may come in several packets",
        "c A 101 501 aZ1
         c A 104 501 23456",
        "c3 @101 [aZ1] first
         c3 @104 [2] rest 4",
    ),
    (
        "what was lost inside of a frame does no harm",
        "c A 101 501 aZ12345678
         c A 116 501 45678901234bD34
         c A 111 501 90123",
        "c3 @101 [aZ12] rest 6 first
         c3 @127 skip 16 [bD34]
         c3 @111 [90123]",
    ),
    (
        "behind a lost header all is copied, and no byte counts as left out",
        "c A 101 501 aD34
         c A 109 501 567890
         c A 105 501 bZ34
         c A 115 501 123",
        "c3 @101 [aD34] first
         c3 @109 [567890] astray
         c3 @105 [bZ34]
         c3 @115 [123] astray",
    ),
    (
        "a lost beginning of a frame is no byte that was left out",
        "c A 101 501 aZ
         c A 105 501 5678901234
         c A 115 501 567890123456bD34",
        "c3 @101 [aZ] first
         c3 @127 skip 22 [bD34]",
    ),
    (
        "what comes again is told once",
        "c A 101 501 aZ12345678
         c A 101 501 aZ12345678
         c A 111 501 9012345678901234
         c A 111 501 9012345678901234",
        "c3 @101 [aZ12] rest 6 first
         c3 @127 skip 16 []",
    ),
    (
        "what comes again together with more is told as it stands",
        "c A 101 501 aZ12345678
         c A 101 501 aZ123456789012345678901234bD34",
        "c3 @101 [aZ12] rest 6 first
         c3 @101 [aZ123456789012345678901234bD34]",
    ),
    (
        "a message may begin in the middle of a frame, and its beginning is told all the same",
        "c A 101 501 aZ12345678
         s A 501 111 aD34
         c A 111 505 90123
         s A 505 116 bD34
         c A 116 509 45678901234",
        "c3 @101 [aZ12] rest 6 first
         s4 @501 [aD34] first
         c5 @111 [] rest 5 first
         s6 @505 [bD34] first
         c7 @127 skip 11 [] first",
    ),
    (
        "what is no frame leads astray",
        "c A 101 501 aD34b!34
         c A 109 501 cD34",
        "c3 @101 [aD34b!34] first astray
         c3 @109 [cD34] astray",
    ),
];
