//! The traffic-control messages that an attachment needs (`linux/pkt_sched.h`, `linux/pkt_cls.h`):
//! the clsact qdisc and its bpf filters. Pure.

#![forbid(unsafe_code)]

use flow_model::Direction;
use netns::wire::{self, ACK, Batch, CREATE, EXCL, Message, Payload};

/// `struct tcmsg`: family, pad, ifindex, handle, parent, info.
const TCMSG: usize = 20;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_CLASSID: u16 = 3;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
/// The program's return value is the verdict: TC_ACT_UNSPEC lets the next filter decide.
const DIRECT_ACTION: u32 = 1;
const ETH_P_ALL: u16 = 3;

/// The kernel's number of the program, in what it tells of a filter.
const TCA_BPF_ID: u16 = 11;

/// What every filter name of ours begins with.
pub const NAME_PREFIX: &str = "pilotfish_";
/// "PF", then whether the clsact qdisc was made by us: so a later process knows too what it may remove.
const HANDLE: u32 = 0x5046_0000;
const MADE_QDISC: u32 = 1;

/// Who made the clsact qdisc that a filter of ours sits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QdiscMaker {
    Us,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QdiscKind {
    /// Room for filters in both directions.
    Clsact,
    /// Its older form takes clsact's place and has no egress side.
    Ingress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qdisc {
    pub index: u32,
    pub kind: QdiscKind,
}

/// A filter as the kernel lists it. Besides filters the kernel lists each group of one priority and
/// protocol, with handle 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub index: u32,
    pub dir: Direction,
    pub prio: u16,
    /// EtherType in host byte order.
    pub protocol: u16,
    pub chain: u32,
    pub handle: u32,
    pub kind: String,
    /// Name of a bpf filter.
    pub name: String,
    /// The kernel's number of its program; 0 where it was not told.
    pub program: u32,
    /// What it tells its program; 0: nothing.
    pub class: u32,
}

/// What a filter of ours runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The kernel's numbers of the programs, by `Direction::index`.
    pub ids: [u32; 2],
    /// The slot, for programs that others have too; 0 for those that know theirs.
    pub class: u16,
}

impl Runs {
    #[must_use]
    pub fn is_of(&self, filter: &Filter) -> bool {
        filter.program == self.ids[filter.dir.index()] && filter.class == u32::from(self.class)
    }
}

impl Filter {
    /// Ours by name *and* handle, whichever process made it; and who made its qdisc.
    #[must_use]
    pub fn ours(&self) -> Option<QdiscMaker> {
        if self.kind != "bpf" || !self.name.starts_with(NAME_PREFIX) || self.handle & !MADE_QDISC != HANDLE {
            return None;
        }
        Some(if self.handle & MADE_QDISC == 0 { QdiscMaker::Other } else { QdiscMaker::Us })
    }

    /// A group's entry in the list, not a filter.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.handle == 0
    }
}

fn parent_of(dir: Direction) -> u32 {
    match dir {
        Direction::Ingress => 0xffff_fff2,
        Direction::Egress => 0xffff_fff3,
    }
}

fn name_of(dir: Direction) -> &'static str {
    match dir {
        Direction::Ingress => "pilotfish_in",
        Direction::Egress => "pilotfish_out",
    }
}

fn tcmsg(index: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut bytes = [0; TCMSG];
    for (place, value) in bytes.chunks_exact_mut(4).zip([0, index, handle, parent, info]) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn prio_and_protocol(prio: u16, protocol: u16) -> u32 {
    u32::from(prio) << 16 | u32::from(protocol.to_be())
}

/// Adds clsact to a link that has none: EEXIST when somebody was faster.
pub fn add_clsact(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_NEWQDISC, ACK | CREATE | EXCL, |message| {
        message.raw(&tcmsg(index, CLSACT_HANDLE, CLSACT_PARENT, 0));
        message.attr_str(TCA_KIND, "clsact");
    });
}

/// Removes clsact with everything on it.
pub fn remove_clsact(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_DELQDISC, ACK, |message| {
        message.raw(&tcmsg(index, CLSACT_HANDLE, CLSACT_PARENT, 0));
        message.attr_str(TCA_KIND, "clsact");
    });
}

/// Adds our filter of `dir`, with a class unless that is 0. Lower `prio` runs first; 1 is the lowest there is.
pub fn add_filter(
    batch: &mut Batch,
    index: u32,
    dir: Direction,
    prio: u16,
    (program, class): (i32, u16),
    maker: QdiscMaker,
) {
    let handle = HANDLE | if maker == QdiscMaker::Us { MADE_QDISC } else { 0 };
    batch.message(libc::RTM_NEWTFILTER, ACK | CREATE | EXCL, |message| {
        message.raw(&tcmsg(index, handle, parent_of(dir), prio_and_protocol(prio, ETH_P_ALL)));
        message.attr_str(TCA_KIND, "bpf");
        message.nest(TCA_OPTIONS, |options| {
            if class != 0 {
                options.attr_u32(TCA_BPF_CLASSID, class.into());
            }
            options.attr(TCA_BPF_FD, &program.to_ne_bytes());
            options.attr_str(TCA_BPF_NAME, name_of(dir));
            options.attr_u32(TCA_BPF_FLAGS, DIRECT_ACTION);
        });
    });
}

/// Removes exactly this filter; others of its group stay.
pub fn remove_filter(batch: &mut Batch, filter: &Filter) {
    batch.message(libc::RTM_DELTFILTER, ACK, |message| {
        let info = prio_and_protocol(filter.prio, filter.protocol);
        message.raw(&tcmsg(filter.index, filter.handle, parent_of(filter.dir), info));
        message.attr_str(TCA_KIND, &filter.kind);
        if filter.chain != 0 {
            message.attr_u32(TCA_CHAIN, filter.chain);
        }
    });
}

/// Our filter as [`add_filter`] made it, to remove it again.
#[must_use]
pub fn our_filter(index: u32, dir: Direction, prio: u16, maker: QdiscMaker) -> Filter {
    let handle = HANDLE | if maker == QdiscMaker::Us { MADE_QDISC } else { 0 };
    Filter {
        index,
        dir,
        prio,
        protocol: ETH_P_ALL,
        chain: 0,
        handle,
        kind: "bpf".to_owned(),
        name: name_of(dir).to_owned(),
        program: 0,
        class: 0,
    }
}

/// Asks for the qdiscs of all links of the namespace.
pub fn qdiscs_request(message: &mut Payload<'_>) {
    message.raw(&tcmsg(0, 0, 0, 0));
}

/// Asks for the filters of one direction of a link's clsact. A link without clsact has none.
pub fn filters_request(message: &mut Payload<'_>, index: u32, dir: Direction) {
    message.raw(&tcmsg(index, 0, parent_of(dir), 0));
}

/// Reads a clsact or ingress qdisc of a dump; others are of no interest.
#[must_use]
pub fn parse_qdisc(message: &Message<'_>) -> Option<Qdisc> {
    if message.kind != libc::RTM_NEWQDISC {
        return None;
    }
    let (_, kind) = wire::attrs_after(message.payload, TCMSG).find(|(kind, _)| *kind == TCA_KIND)?;
    let kind = match wire::text(kind).as_str() {
        "clsact" => QdiscKind::Clsact,
        "ingress" => QdiscKind::Ingress,
        _ => return None,
    };
    Some(Qdisc { index: wire::read_u32(message.payload, 4)?, kind })
}

/// Reads an entry of a dump of `dir`'s filters.
#[must_use]
pub fn parse_filter(message: &Message<'_>, dir: Direction) -> Option<Filter> {
    if message.kind != libc::RTM_NEWTFILTER {
        return None;
    }
    let info = wire::read_u32(message.payload, 16)?;
    let mut filter = Filter {
        index: wire::read_u32(message.payload, 4)?,
        dir,
        prio: (info >> 16) as u16,
        protocol: u16::from_be(info as u16),
        chain: 0,
        handle: wire::read_u32(message.payload, 8)?,
        kind: String::new(),
        name: String::new(),
        program: 0,
        class: 0,
    };
    for (kind, value) in wire::attrs_after(message.payload, TCMSG) {
        match kind {
            TCA_KIND => filter.kind = wire::text(value),
            TCA_CHAIN => filter.chain = wire::read_u32(value, 0).unwrap_or(0),
            // Other classifiers have a number of the same value with another meaning; only bpf's is looked at.
            TCA_OPTIONS => {
                for (kind, value) in wire::attrs(value) {
                    match kind {
                        TCA_BPF_NAME => filter.name = wire::text(value),
                        TCA_BPF_CLASSID => filter.class = wire::read_u32(value, 0).unwrap_or(0),
                        TCA_BPF_ID => filter.program = wire::read_u32(value, 0).unwrap_or(0),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn direction() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)]
    }

    fn maker() -> impl Strategy<Value = QdiscMaker> {
        prop_oneof![Just(QdiscMaker::Us), Just(QdiscMaker::Other)]
    }

    proptest! {
        #[test]
        fn a_filter_reads_back_as_ours_with_what_was_put_into_it(index in 1u32.., dir in direction(), prio in 1u16.., class: u16, maker in maker()) {
            let mut batch = Batch::new();
            add_filter(&mut batch, index, dir, prio, (5, class), maker);
            let message = wire::messages(batch.bytes()).next().expect("one message");
            let filter = parse_filter(&message, dir).expect("a filter");
            prop_assert_eq!(filter.ours(), Some(maker));
            prop_assert_eq!(&filter, &Filter { class: class.into(), ..our_filter(index, dir, prio, maker) });

            let mut removal = Batch::new();
            remove_filter(&mut removal, &filter);
            let removal = wire::messages(removal.bytes()).next().expect("one message");
            prop_assert_eq!(&removal.payload[..TCMSG], &message.payload[..TCMSG]);
        }

        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in [libc::RTM_NEWQDISC, libc::RTM_NEWTFILTER] {
                let message = Message { kind, flags: 0, seq: 0, payload: &bytes };
                let _ = parse_qdisc(&message);
                let _ = parse_filter(&message, Direction::Ingress);
            }
        }
    }

    #[test]
    fn a_filter_is_ours_only_by_kind_name_and_handle_together() {
        let ours = our_filter(4, Direction::Ingress, 1, QdiscMaker::Us);
        assert_eq!(ours.ours(), Some(QdiscMaker::Us));
        assert_eq!(Filter { name: "cil_from_container".to_owned(), ..ours.clone() }.ours(), None);
        assert_eq!(Filter { handle: 1, ..ours.clone() }.ours(), None);
        assert_eq!(Filter { kind: "flower".to_owned(), ..ours }.ours(), None);
    }
}
