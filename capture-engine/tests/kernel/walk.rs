//! Frames of a bulk transfer over real sockets: large packets, several CPUs, what gets lost sent again.

use crate::bed::Bed;
use crate::frames::{load, until};
use crate::script::walks::Told;
use capture_engine::event::Event;
use capture_engine::kernel::KernelConfig;
use flow_model::{Direction, Slot};
use l7::{Interest, Length, Walk};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

/// Four bytes of length, and so many more; 64 of each frame are copied.
static WALK: Walk = Walk {
    length: Length::Fixed { at: 0, width: 4, big_endian: true },
    header: 4,
    uncounted: 4,
    kind: None,
    classes: &[],
    keep: [64; 4],
    most: 64,
    aligned: false,
    rows: false,
    runs: false,
};
const FRAMES: usize = 600;

fn frame(number: usize) -> Vec<u8> {
    let body = [100, 8188, 60_000, 300_000][number % 4];
    [&(body as u32).to_be_bytes()[..], &(number as u32).to_be_bytes(), &vec![b'.'; body - 4]].concat()
}

#[test]
fn each_frame_of_a_bulk_transfer_is_told_and_little_of_it_copied() {
    let bed = Bed::new();
    let kernel = load(&KernelConfig { ring_bytes: 1 << 22, flows: 256, ..Default::default() });
    bed.attach(&kernel, Slot(42));
    let mut reader = kernel.reader().expect("epoll").expect("the first reader");
    let listener = bed.pod.run(|_| TcpListener::bind(("10.77.0.1", 8080))).expect("a thread").expect("a listener");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut question = [0; 8];
        stream.read_exact(&mut question).expect("the first question");
        stream.write_all(&frame(0)).expect("its answer");
        stream.read_exact(&mut question).expect("the second one");
        let all: Vec<u8> = (0..FRAMES).flat_map(frame).collect();
        stream.write_all(&all).expect("its answer");
        all.len()
    });
    let (go, wait) = mpsc::channel();
    let client = bed.peer.run(|_| TcpStream::connect(("10.77.0.1", 8080))).expect("a thread").expect("a connection");
    let client = std::thread::spawn(move || {
        let mut stream = client;
        stream.write_all(&[0, 0, 0, 4, 1, 1, 1, 1]).expect("a question");
        stream.read_exact(&mut vec![0; frame(0).len()]).expect("the first answer");
        wait.recv().expect("a word");
        stream.write_all(&[0, 0, 0, 4, 2, 2, 2, 2]).expect("a question");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the second answer");
    });
    let (mut told, mut closed, mut flow) = (Vec::new(), false, None);
    let mut hear = |event: Event<'_>| match &event {
        Event::Segment(segment) => {
            flow = Some((segment.key, segment.id));
            told.extend(Told::heard(&event));
            (told.len(), closed)
        }
        Event::Closed(_) => {
            closed = true;
            (told.len(), closed)
        }
    };
    let mut state = (0, false);
    until("the first answer", || {
        reader.drain(usize::MAX, &mut |event| state = hear(event));
        state.0 == 2
    });
    let (key, id) = flow.expect("a flow");
    let overrides = kernel.overrides();
    overrides.set(&key, id, Interest::Frames(&WALK)).expect("an override");
    let next = [0, 1].map(|way| told[way].seq.wrapping_add(told[way].wire_len));
    overrides.straighten(&key, id, next.map(Some)).expect("a command");
    let start = next[Direction::Egress.index()];
    go.send(()).expect("the client");
    until("the end", || {
        reader.drain(usize::MAX, &mut |event| {
            closed |= matches!(event, Event::Closed(_));
            told.extend(Told::heard(&event));
        });
        closed
    });
    let sent = server.join().expect("the server");
    client.join().expect("the client");
    assert_eq!(kernel.stats().expect("stats").ring_full, 0);
    let (mut place, mut at, mut copied) = (start, 0, 0);
    // Where packets cut the beginning of a frame, what is kept of it is in two records.
    let mut runs: Vec<(usize, Vec<u8>)> = Vec::new();
    for Told { seq, walked, wire_len, bytes, .. } in told[2..].iter().filter(|told| !told.from_client) {
        assert!(!walked.astray, "at {at}");
        assert_eq!(seq.wrapping_sub(walked.skipped), place, "at {at}: no byte is missing");
        at += walked.skipped as usize;
        match runs.last_mut() {
            Some((from, run)) if *from + run.len() == at => run.extend_from_slice(bytes),
            _ => runs.push((at, bytes.clone())),
        }
        (place, at, copied) = (seq.wrapping_add(*wire_len), at + *wire_len as usize, copied + bytes.len());
    }
    // Where frame `number` begins.
    let (mut begins, mut number) = (0, 0);
    for (from, run) in runs {
        // Frames that end so soon that all between them is copied are in one run.
        while number < FRAMES && (from..from + run.len()).contains(&begins) {
            assert_eq!(run.get(begins - from + 4..begins - from + 8), Some(&(number as u32).to_be_bytes()[..]));
            begins += frame(number).len();
            number += 1;
        }
    }
    assert_eq!((number, at), (FRAMES, sent));
    assert!(copied * 100 < sent, "{copied} of {sent}");
}
