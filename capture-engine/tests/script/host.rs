//! Scripts through the kernel programs as built for the host: what `test_run` does, without a kernel.

use super::sys::Library;
use super::{End, Packet, Piece, Told};
use capture_wire as wire;
use zerocopy::FromBytes;

const CLIENT: usize = wire::INGRESS as usize;
const PAIR: [usize; 2] = [CLIENT, 1 - CLIENT];

/// An entry of the table: see `host.c`.
#[derive(FromBytes)]
#[repr(C)]
pub struct Entry {
    pub used: u32,
    pub key: wire::Key,
    pub flow: wire::Flow,
}

/// Whether they can be built here: not on a machine that was given the test alone.
pub fn can_run() -> bool {
    cfg!(not(no_bpf)) && super::sys::source().exists()
}

/// What the programs tell of the packets, at the server's interface.
pub fn run(packets: &[Packet]) -> Told {
    run_in(packets, 1 << 20)
}

/// The same with a ring of so many bytes, that nobody reads meanwhile.
pub fn run_in(packets: &[Packet], ring_bytes: u32) -> Told {
    let mut library = Library::get().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    library.reset(4096);
    library.ring_bytes(ring_bytes);
    let mut frame = Vec::with_capacity(256);
    for packet in packets {
        packet.frame(&mut frame);
        let dir = if packet.from_client { wire::INGRESS } else { wire::EGRESS };
        assert_eq!(library.packet(7, u32::from(dir), &frame), -1, "the packet goes on");
    }
    let mut told = Told::default();
    records(library.ring(), &mut |record| hear(&mut told, record));
    library.aside().chunks_exact(size_of::<wire::Closed>()).for_each(|end| hear(&mut told, end));
    for entry in library.flows().chunks_exact(size_of::<Entry>()) {
        let Entry { used, key: _, flow } = Entry::read_from_bytes(entry).unwrap();
        if used != 0 {
            told.of(flow.flow_id).end = Some(end(flow.flags, &flow.counters, flow.turn, flow.message.bytes));
        }
    }
    told.sorted()
}

/// Answers that frames without room for a flow showed, to the pod and from it, and those that found
/// no place. Counts since the programs were built: no reset sets the last one back.
pub fn refused<'a>(frames: impl Iterator<Item = (u32, bool, &'a [u8])>) -> [u64; 3] {
    let mut library = Library::get().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    library.reset(4096);
    library.room(0);
    let before = <[u64; 3]>::read_from_bytes(library.answers()).unwrap();
    for (slot, from_client, frame) in frames {
        let dir = if from_client { wire::INGRESS } else { wire::EGRESS };
        assert_eq!(library.packet(slot, u32::from(dir), frame), -1, "the packet goes on");
    }
    let after = <[u64; 3]>::read_from_bytes(library.answers()).unwrap();
    [0, 1, 2].map(|which| after[which] - before[which])
}

/// How often the client of the only flow has asked, if that is counted.
pub fn last_asked(library: &Library) -> Option<l7::Asked> {
    let flows = library.flows().chunks_exact(size_of::<Entry>()).map(|entry| Entry::read_from_bytes(entry).unwrap());
    let flow = flows.filter(|entry| entry.used != 0).map(|entry| entry.flow).next()?;
    let counted = flow.flags & (wire::FLOW_LINES_IN | wire::FLOW_LINES_OUT) != 0;
    counted.then(|| l7::Asked::from_word(flow.message.skipped))
}

/// Each record of the ring that counts.
pub fn records(mut ring: &[u8], each: &mut impl FnMut(&[u8])) {
    while !ring.is_empty() {
        let (head, rest) = <[u32; 2]>::read_from_prefix(ring).unwrap();
        let (record, next) = rest.split_at((head[0] as usize).next_multiple_of(8));
        ring = next;
        if head[1] != 0 {
            each(record);
        }
    }
}

fn hear(told: &mut Told, record: &[u8]) {
    match u32::read_from_prefix(record).unwrap().0 {
        wire::EVENT_SEGMENT => {
            let (segment, payload) = wire::Segment::read_from_prefix(record).unwrap();
            let starts = segment.flags & wire::SEG_MESSAGE_START != 0 && segment.prev.turn != 0;
            told.of(segment.flow_id).pieces.push(Piece {
                from_client: usize::from(segment.dir) == CLIENT,
                turn: segment.turn,
                seq: segment.seq,
                payload: payload[..segment.captured as usize].to_vec(),
                before: starts.then_some(segment.prev.bytes),
            });
        }
        wire::EVENT_CLOSED => {
            let (closed, _) = wire::Closed::read_from_prefix(record).unwrap();
            let end = end(closed.flow_flags, &closed.counters, closed.turn, closed.last.bytes);
            told.of(closed.flow_id).end = Some(end);
        }
        _ => {}
    }
}

fn end(flags: u32, counters: &wire::Counters, turns: u32, last: u64) -> End {
    let has = |flag| flags & flag != 0;
    End {
        how: match (has(wire::FLOW_CLOSED), has(wire::FLOW_RST)) {
            (false, _) => "gone",
            (true, true) => "reset",
            (true, false) => "fin",
        },
        packets: PAIR.map(|way| counters.packets[way]),
        retransmits: PAIR.map(|way| counters.retransmits[way]),
        turns,
        last,
        established: has(wire::FLOW_ESTABLISHED | wire::FLOW_MIDWAY),
        midway: has(wire::FLOW_MIDWAY),
        roles: has(wire::FLOW_LOCAL_SERVER) && !has(wire::FLOW_LOCAL_CLIENT),
    }
}
