//! Counts the packets that the kernel drops, by reason and network namespace: `bpf/drops.c` at the
//! tracepoint that every packet passes which nobody gets.

use super::object::{LoadError, refused, setup, verified};
use super::sys;
use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};
use aya::programs::BtfTracePoint;
use aya::{Ebpf, EbpfError, EbpfLoader};
use btf::{Btf, Member};
use std::collections::BTreeMap;
use std::fmt;
use std::io;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PILOTFISH_DROPS_OBJECT"));
const PROGRAM: &str = "pilotfish_drop";
const TRACEPOINT: &str = "kfree_skb";
/// The kernel's description of itself.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// `enum skb_drop_reason` of include/net/dropreason-core.h, and what its constants begin with.
const REASONS: &str = "skb_drop_reason";
const PREFIX: &str = "SKB_DROP_REASON_";
/// As in `bpf/drops.c`.
const MOST_REASONS: usize = 256;
/// Maps whose sizes are set.
const COUNTED: &str = "pilotfish_dropped";
const AT_HAND: &str = "pilotfish_at_hand";
/// Arguments of the tracepoint where it has the receiving socket: since Linux 6.11.
const WITH_RECEIVER: u32 = 4;

/// What the program reads, by the constant that holds its offset. A member of a member where there are two.
const FIELDS: [(&str, &[Member]); 6] = [
    ("pf_skb_dev", &[("sk_buff", "dev")]),
    ("pf_skb_sk", &[("sk_buff", "sk")]),
    ("pf_dev_net", &[("net_device", "nd_net")]),
    ("pf_sock_net", &[("sock", "__sk_common"), ("sock_common", "skc_net")]),
    ("pf_net_loopback", &[("net", "loopback_dev")]),
    ("pf_net_inum", &[("net", "ns"), ("ns_common", "inum")]),
];
const STRUCTS: [&str; 6] = ["sk_buff", "net_device", "sock", "sock_common", "net", "ns_common"];

/// For how many pairs of a namespace and a reason there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropsRoom {
    /// In all: 64 bytes each, and 8 more for each processor.
    pub pairs: u32,
    /// Of them, at hand for each processor: 24 bytes each. A power of two.
    pub at_hand: u32,
}

impl Default for DropsRoom {
    fn default() -> DropsRoom {
        DropsRoom { pairs: 2048, at_hand: 128 }
    }
}

/// Packets that were dropped in one namespace for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// Inode of the namespace. None where the packet belonged to no interface and no socket.
    pub netns: Option<u32>,
    /// Place of the reason in the list that [`Drops::load`] was given.
    pub reason: usize,
    /// So many since it was loaded.
    pub count: u64,
}

/// The program at its tracepoint, until it is dropped.
pub struct Drops {
    counts: PerCpuHashMap<MapData, u64, u64>,
    /// As `struct pf_pair`: the kernel's address of a namespace, the pair, its count.
    at_hand: PerCpuArray<MapData, [u64; 3]>,
    room: DropsRoom,
    missed: PerCpuArray<MapData, u64>,
    _program: Ebpf,
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drops").finish_non_exhaustive()
    }
}

/// What the running kernel says of itself.
#[derive(Debug)]
struct Found {
    offsets: [u32; FIELDS.len()],
    wanted: [u8; MOST_REASONS],
    has_receiver: u32,
}

impl Drops {
    /// Counts from now on for these reasons, as the kernel calls them without `SKB_DROP_REASON_`: at
    /// most 255. Those that this kernel does not know never occur.
    ///
    /// # Errors
    /// The kernel does not say why it drops a packet (before 5.17), has no BTF, or refuses the program.
    pub fn load(reasons: &[&str], room: DropsRoom) -> Result<Drops, LoadError> {
        if cfg!(no_bpf) {
            return Err(LoadError::NotBuilt);
        }
        let blob = std::fs::read(BTF).map_err(setup("read the kernel's BTF"))?;
        let Found { offsets, wanted, has_receiver } = find(&blob, reasons).map_err(setup("count dropped packets"))?;
        drop(blob);
        let mut loader = EbpfLoader::new();
        let DropsRoom { pairs, at_hand } = room;
        loader.btf(None).map_max_entries(COUNTED, pairs).map_max_entries(AT_HAND, at_hand);
        loader.override_global("pf_at_hand", &at_hand, true).override_global("pf_wanted", &wanted[..], true);
        loader.override_global("pf_has_receiver", &has_receiver, true);
        for ((name, _), offset) in FIELDS.iter().zip(&offsets) {
            loader.override_global(name, offset, true);
        }
        let mut ebpf = loader.load(OBJECT).map_err(refused)?;
        drop(loader);
        let mut map = |name| ebpf.take_map(name).ok_or(LoadError::Missing(name));
        let counts = PerCpuHashMap::try_from(map(COUNTED)?).map_err(refused)?;
        let at_hand = PerCpuArray::try_from(map(AT_HAND)?).map_err(refused)?;
        let missed = PerCpuArray::try_from(map("pilotfish_missed")?).map_err(refused)?;
        let program = ebpf.program_mut(PROGRAM).and_then(|program| program.try_into().ok());
        let program: &mut BtfTracePoint = program.ok_or(LoadError::Missing(PROGRAM))?;
        let types = aya::Btf::from_sys_fs().map_err(|error| refused(EbpfError::from(error)))?;
        verified(|| program.load(TRACEPOINT, &types))?;
        program.attach().map_err(refused)?;
        // As for the alarm: a loader reads all of the kernel's BTF, wanted or not.
        drop(types);
        sys::give_back_memory();
        Ok(Drops { counts, at_hand, room, missed, _program: ebpf })
    }

    /// What was counted so far, in no order. A pair that a processor puts away meanwhile may be told with less
    /// than before, and has all of it the next time.
    ///
    /// # Errors
    /// When the kernel refuses to read a map.
    pub fn counts(&self) -> io::Result<Vec<Dropped>> {
        let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
        // New ones come while it is walked: it has an end all the same.
        let most = usize::try_from(self.room.pairs).unwrap_or(usize::MAX);
        for pair in self.counts.iter().take(most) {
            let (pair, counts) = pair.map_err(io::Error::other)?;
            *sums.entry(pair).or_default() += counts.iter().sum::<u64>();
        }
        for place in 0..self.room.at_hand {
            let processors = self.at_hand.get(&place, 0).map_err(io::Error::other)?;
            for [_, pair, count] in processors.iter().filter(|[_, _, count]| *count > 0) {
                *sums.entry(*pair).or_default() += count;
            }
        }
        let told = |(pair, count): (u64, u64)| {
            let [netns, reason] = [pair & u64::from(u32::MAX), pair >> 32];
            let netns = u32::try_from(netns).ok().filter(|netns| *netns != 0);
            Dropped { netns, reason: usize::try_from(reason).unwrap_or(usize::MAX), count }
        };
        Ok(sums.into_iter().map(told).collect())
    }

    /// Drops for one of the reasons that were not counted for want of room.
    ///
    /// # Errors
    /// When the kernel refuses to read the map: nobody knows then whether all were counted.
    pub fn missed(&self) -> io::Result<u64> {
        Ok(self.missed.get(&0, 0).map_err(io::Error::other)?.iter().sum())
    }
}

fn find(blob: &[u8], reasons: &[&str]) -> io::Result<Found> {
    let lacks = |what: &str| io::Error::other(format!("no {what} in {BTF}"));
    let btf = Btf::index(blob, &STRUCTS, &[]).ok_or_else(|| lacks("types"))?;
    let old = || io::Error::other("the kernel does not say why it drops a packet (Linux 5.17 and later do)");
    let known = btf.constants(REASONS).ok_or_else(old)?;
    let arguments = btf.arguments_of_tracepoint(TRACEPOINT).ok_or_else(|| lacks("tracepoint kfree_skb"))?;
    let mut wanted = [0; MOST_REASONS];
    for (name, number) in known {
        let place = name.strip_prefix(PREFIX).and_then(|name| reasons.iter().position(|reason| *reason == name));
        let place = place.and_then(|place| u8::try_from(place + 1).ok());
        let number = usize::try_from(number).ok().and_then(|number| wanted.get_mut(number));
        if let (Some(wanted), Some(place)) = (number, place) {
            *wanted = place;
        }
    }
    if wanted.iter().all(|place| *place == 0) {
        return Err(lacks("reason that is asked for"));
    }
    let mut offsets = [0; FIELDS.len()];
    for (offset, (name, path)) in offsets.iter_mut().zip(FIELDS) {
        let places = path.iter().map(|member| btf.offset(*member));
        *offset = places.sum::<Option<u32>>().ok_or_else(|| lacks(name))?;
    }
    Ok(Found { offsets, wanted, has_receiver: u32::from(arguments >= WITH_RECEIVER) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF of a kernel before 5.17, as far as it matters: without types.
    #[test]
    fn a_kernel_that_does_not_say_why_is_told_as_such() {
        let header = [0x0001_eb9f_u32, 24, 0, 0, 0, 1];
        let blob: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).chain([0]).collect();
        let said = find(&blob, &["NETFILTER_DROP"]).expect_err("refused").to_string();
        assert_eq!(said, "the kernel does not say why it drops a packet (Linux 5.17 and later do)");
        assert!(find(&[], &[]).is_err());
    }

    #[test]
    fn reasons_are_found_by_name_in_the_running_kernel() {
        let Ok(blob) = std::fs::read(BTF) else { return };
        let Found { wanted, offsets, .. } = find(&blob, &["NO_SUCH", "NETFILTER_DROP"]).expect("Linux 5.18 or later");
        assert_eq!(wanted.iter().filter(|place| **place != 0).collect::<Vec<_>>(), [&2]);
        // `dev` is in the union that a packet begins with, and nothing that a pointer stands for begins with a name.
        assert!(offsets.iter().filter(|offset| **offset == 0).count() <= 1, "{offsets:?}");
        assert!(find(&blob, &["NO_SUCH"]).is_err());
    }
}
