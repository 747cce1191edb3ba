//! From the kernel's bytes to the words of [`crate::event`], and back for keys.

use crate::event::{Counters, Event, FlowId, FlowKey, Sample, Segment};
use capture_wire as wire;
use flow_model::{Close, Direction, Endpoint, FiveTuple, Role, Slot, Transport, Ts};
use std::net::{IpAddr, Ipv6Addr};
use zerocopy::FromBytes;

/// A record that this version of the programs does not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// `Ok(None)`: a record that only wakes the reader.
pub(super) fn event(record: &[u8]) -> Result<Option<Event<'_>>, Malformed> {
    let (kind, _) = u32::read_from_prefix(record).map_err(|_| Malformed)?;
    match kind {
        wire::EVENT_SEGMENT | wire::EVENT_DATAGRAM => {
            let (header, payload) = wire::Segment::ref_from_prefix(record).map_err(|_| Malformed)?;
            segment(header, payload).map(|segment| Some(Event::Segment(segment)))
        }
        wire::EVENT_CLOSED => {
            let (closed, _) = wire::Closed::ref_from_prefix(record).map_err(|_| Malformed)?;
            Ok(Some(Event::Closed(closed_sample(closed)?)))
        }
        wire::EVENT_WAKE => Ok(None),
        _ => Err(Malformed),
    }
}

fn segment<'a>(header: &wire::Segment, payload: &'a [u8]) -> Result<Segment<'a>, Malformed> {
    let key = flow_key(&header.key)?;
    let starts = header.flags & wire::SEG_MESSAGE_START != 0;
    let counted = header.flags & wire::SEG_LINES != 0;
    Ok(Segment {
        key,
        id: FlowId(header.flow_id),
        role: role(header.flow_flags),
        joined_midway: header.flow_flags & wire::FLOW_MIDWAY != 0,
        transport: key.tuple.transport,
        dir: direction(header.dir)?,
        at: Ts(header.at_ns),
        seq: header.seq,
        turn: header.turn,
        first: starts,
        // A long packet comes in several records, and only the last of them can have left something out.
        wire_len: if header.flags & wire::SEG_CUT != 0 { header.payload } else { header.captured },
        prev: if starts { message_end(&header.prev) } else { None },
        payload: payload.get(..header.captured as usize).ok_or(Malformed)?,
        acked: None,
        walked: l7::Walked {
            skipped: if counted { 0 } else { header.prev.skipped },
            frames: header.flags & wire::SEG_WALKED != 0,
            astray: header.flags & wire::SEG_ASTRAY != 0,
            tail: header.flags & wire::SEG_TAIL != 0,
            asked: counted.then(|| l7::Asked::from_word(header.prev.skipped)),
        },
    })
}

/// An end that lay aside.
pub(super) fn end(closed: &[u8]) -> Result<Sample, Malformed> {
    closed_sample(&wire::Closed::read_from_bytes(closed).map_err(|_| Malformed)?)
}

fn closed_sample(closed: &wire::Closed) -> Result<Sample, Malformed> {
    Ok(Sample {
        key: flow_key(&closed.key)?,
        id: FlowId(closed.flow_id),
        at: Ts(closed.at_ns),
        role: role(closed.flow_flags),
        joined_midway: closed.flow_flags & wire::FLOW_MIDWAY != 0,
        established: established(closed.flow_flags),
        counters: counters(&closed.counters),
        turns: closed.turn,
        message: last_message(&closed.last, closed.flow_flags),
        // A flow that a new SYN replaced ended unseen.
        closed: close(closed.flow_flags).or(Some(Close::Gone)),
        half_closed: false,
    })
}

/// The flow as it stands in the table; `at` is the time of its last packet.
pub(super) fn sample(key: &wire::Key, flow: &wire::Flow) -> Result<Sample, Malformed> {
    // What comes after it is another connection's, for which it has no place.
    let kept = flow.flags & wire::FLOW_KEPT != 0;
    Ok(Sample {
        key: flow_key(key)?,
        id: FlowId(flow.flow_id),
        at: Ts(if kept { flow.syn_ns } else { flow.last_ns }),
        role: role(flow.flags),
        joined_midway: flow.flags & wire::FLOW_MIDWAY != 0,
        established: established(flow.flags),
        counters: counters(&flow.counters),
        turns: flow.turn,
        message: last_message(&flow.message, flow.flags),
        closed: close(flow.flags).or(kept.then_some(Close::Gone)),
        half_closed: flow.flags & (wire::FLOW_FIN_IN | wire::FLOW_FIN_OUT) == wire::FLOW_FIN_OUT,
    })
}

pub(super) fn flow_key(key: &wire::Key) -> Result<FlowKey, Malformed> {
    let transport = match i32::from(key.proto) {
        libc::IPPROTO_TCP => Transport::Tcp,
        libc::IPPROTO_UDP => Transport::Udp,
        _ => return Err(Malformed),
    };
    let endpoint = |ip: [u8; 16], port| Endpoint { ip: Ipv6Addr::from(ip).to_canonical(), port };
    Ok(FlowKey {
        slot: Slot(key.slot),
        tuple: FiveTuple {
            transport,
            local: endpoint(key.local_ip, key.local_port),
            remote: endpoint(key.remote_ip, key.remote_port),
        },
    })
}

pub(super) fn wire_key(key: &FlowKey) -> wire::Key {
    let FlowKey { slot, tuple: FiveTuple { transport, local, remote } } = *key;
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    wire::Key {
        slot: slot.0,
        local_ip: octets(local.ip),
        remote_ip: octets(remote.ip),
        local_port: local.port,
        remote_port: remote.port,
        proto: match transport {
            Transport::Tcp => libc::IPPROTO_TCP as u8,
            Transport::Udp => libc::IPPROTO_UDP as u8,
        },
        pad: [0; 3],
    }
}

/// What stands for a server in the table of overrides: it may be at either end.
pub(super) fn server_keys(server: Endpoint) -> [wire::Key; 2] {
    let nobody = Endpoint { ip: Ipv6Addr::UNSPECIFIED.into(), port: 0 };
    [(server, nobody), (nobody, server)].map(|(local, remote)| {
        let tuple = FiveTuple { transport: Transport::Tcp, local, remote };
        wire_key(&FlowKey { slot: Slot(0), tuple })
    })
}

/// A protocol's frames as the programs follow them.
#[must_use]
pub fn frames(walk: &l7::Walk) -> wire::Frames {
    let l7::Walk { length, header, uncounted, kind, classes, keep, most, aligned, rows, runs } = *walk;
    let (form, at, width, big) = match length {
        l7::Length::Fixed { at, width, big_endian } => (wire::FORM_FIXED, at, width, u8::from(big_endian)),
        l7::Length::Varint { at } => (wire::FORM_VARINT, at, 0, 0),
        l7::Length::WebSocket => (wire::FORM_WEBSOCKET, 0, 0, 0),
        l7::Length::Packets => (wire::FORM_PACKETS, 0, 0, 0),
    };
    let (kind_at, kind_mask) = kind.unwrap_or_default();
    let mut table = [0u8; 64];
    for &(class, kinds) in classes {
        for &kind in kinds {
            if let Some(byte) = table.get_mut(usize::from(kind >> 2)) {
                *byte |= (class & 3) << ((kind & 3) * 2);
            }
        }
    }
    let flag = |is, flag| if is { flag } else { 0 };
    wire::Frames {
        form,
        at,
        width: width.min(4),
        big,
        kind_at,
        kind_mask,
        header: header.clamp(1, wire::HEADER as u8),
        flags: flag(aligned, wire::FRAMES_ALIGNED) | flag(rows, wire::FRAMES_ROWS) | flag(runs, wire::FRAMES_RUNS),
        add: uncounted,
        most: most.min(wire::MOST_FRAMES),
        keep,
        classes: table,
    }
}

fn direction(dir: u8) -> Result<Direction, Malformed> {
    match dir {
        wire::INGRESS => Ok(Direction::Ingress),
        wire::EGRESS => Ok(Direction::Egress),
        _ => Err(Malformed),
    }
}

fn role(flags: u32) -> Role {
    match (flags & wire::FLOW_LOCAL_CLIENT != 0, flags & wire::FLOW_LOCAL_SERVER != 0) {
        (true, false) => Role::Client,
        (false, true) => Role::Server,
        // Both: a simultaneous open (RFC 9293 3.5).
        _ => Role::Unknown,
    }
}

fn established(flags: u32) -> bool {
    flags & (wire::FLOW_ESTABLISHED | wire::FLOW_MIDWAY) != 0
}

fn close(flags: u32) -> Option<Close> {
    match (flags & wire::FLOW_CLOSED != 0, flags & wire::FLOW_RST != 0) {
        (false, _) => None,
        (true, true) => Some(Close::Reset),
        (true, false) => Some(Close::Fin),
    }
}

fn counters(counters: &wire::Counters) -> Counters {
    let wire::Counters { packets, bytes, retransmits, zero_windows, rtt_ns } = *counters;
    Counters { packets, bytes, retransmits, zero_windows, rtt_ns: (rtt_ns != 0).then_some(rtt_ns) }
}

fn message_end(message: &wire::Message) -> Option<l7::MessageEnd> {
    let wire::Message { first_ns, last_ns, bytes, packets, turn, tail, tail_len, dir: _, pad: _, skipped: _ } =
        *message;
    (turn != 0).then_some(l7::MessageEnd {
        turn,
        bytes,
        packets,
        first: Ts(first_ns),
        last: Ts(last_ns),
        tail,
        tail_len: tail_len.min(8),
        asked: None,
    })
}

/// Of a flow's newest message.
fn last_message(message: &wire::Message, flow_flags: u32) -> Option<l7::MessageEnd> {
    let counted = flow_flags & (wire::FLOW_LINES_IN | wire::FLOW_LINES_OUT) != 0;
    let asked = counted.then(|| l7::Asked::from_word(message.skipped));
    message_end(message).map(|end| l7::MessageEnd { asked, ..end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    fn key() -> FlowKey {
        FlowKey {
            slot: Slot(7),
            tuple: FiveTuple {
                transport: Transport::Tcp,
                local: Endpoint { ip: [10, 0, 0, 1].into(), port: 40000 },
                remote: Endpoint { ip: [10, 0, 0, 2].into(), port: 80 },
            },
        }
    }

    fn record(header: &wire::Segment, payload: &[u8]) -> Vec<u8> {
        [header.as_bytes(), payload].concat()
    }

    #[test]
    fn a_key_survives_the_way_to_the_kernel_and_back() {
        let v6 = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut keys = [key(); 2];
        keys[1].tuple.local.ip = v6("fd00::1");
        keys[1].tuple.remote.ip = v6("fd00::2");
        keys[1].tuple.transport = Transport::Udp;
        for key in keys {
            assert_eq!(flow_key(&wire_key(&key)), Ok(key));
        }
    }

    #[test]
    fn the_first_piece_of_a_message_brings_the_end_of_the_one_before() {
        let mut header = wire::Segment::new_zeroed();
        header.kind = wire::EVENT_SEGMENT;
        header.captured = 4;
        header.key = wire_key(&key());
        header.payload = 1400;
        header.turn = 2;
        header.flags = wire::SEG_MESSAGE_START | wire::SEG_CUT;
        header.flow_flags = wire::FLOW_LOCAL_SERVER;
        header.prev = wire::Message { turn: 1, bytes: 120, packets: 1, first_ns: 5, last_ns: 6, ..Default::default() };
        let bytes = record(&header, b"HTTP and more");
        let Ok(Some(Event::Segment(segment))) = event(&bytes) else { panic!("a segment") };
        assert_eq!((segment.payload, segment.wire_len, segment.role), (&b"HTTP"[..], 1400, Role::Server));
        assert_eq!(segment.prev.map(|end| (end.turn, end.bytes, end.last)), Some((1, 120, Ts(6))));

        header.flags = 0;
        let bytes = record(&header, b"HTTP");
        let Ok(Some(Event::Segment(segment))) = event(&bytes) else { panic!("a segment") };
        assert!(segment.prev.is_none(), "only the first piece brings it");
    }

    #[test]
    fn a_piece_with_more_pieces_behind_it_leaves_nothing_out() {
        let mut header = wire::Segment::new_zeroed();
        header.kind = wire::EVENT_SEGMENT;
        header.captured = 4;
        header.key = wire_key(&key());
        header.payload = 20_000;
        let bytes = record(&header, b"HTTP");
        let Ok(Some(Event::Segment(segment))) = event(&bytes) else { panic!("a segment") };
        assert_eq!((segment.payload.len(), segment.wire_len), (4, 4));
    }

    #[test]
    fn a_record_that_is_shorter_than_it_says_is_malformed() {
        let mut header = wire::Segment::new_zeroed();
        header.kind = wire::EVENT_SEGMENT;
        header.captured = 5;
        header.key = wire_key(&key());
        assert_eq!(event(&record(&header, b"HTTP")).err(), Some(Malformed));
        assert_eq!(event(&[1, 0]).err(), Some(Malformed));
    }

    #[test]
    fn a_close_tells_how() {
        for (flags, how) in [
            (wire::FLOW_CLOSED | wire::FLOW_RST, Close::Reset),
            (wire::FLOW_CLOSED | wire::FLOW_FIN_IN | wire::FLOW_FIN_OUT, Close::Fin),
            (wire::FLOW_ESTABLISHED, Close::Gone),
        ] {
            let mut closed = wire::Closed::new_zeroed();
            closed.kind = wire::EVENT_CLOSED;
            closed.key = wire_key(&key());
            closed.flow_flags = flags;
            let Ok(Some(Event::Closed(sample))) = event(closed.as_bytes()) else { panic!("a close") };
            assert_eq!(sample.closed, Some(how));
        }
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0u8..6) {
            if let Some(first) = bytes.get_mut(..4) {
                first.copy_from_slice(&[kind, 0, 0, 0]);
            }
            let _ = event(&bytes);
        }
    }
}
