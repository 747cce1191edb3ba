//! The maps that the parts of the door share, and how they are set when the programs are loaded.

use super::object::{LoadError, setup};
use super::sys::{ControlPage, Map};
use crate::event::FlowKey;
use aya::maps::MapData;
use capture_wire as wire;
use flow_model::{Endpoint, Slot};
use hashbrown::{HashMap, HashSet};
use l7::Walk;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU64;
use zerocopy::{FromZeros, IntoBytes};

/// Of the ring, one part in so many is for the news of connections' ends alone: with 8 MiB, 5,698 of them.
const ENDS_SHARE: u32 = 8;
/// Half-open connections of one namespace take one part in so many of the flow table: with 65,536
/// flows, those of 1,000 new connections a second that take a second each to be answered.
const OPENING_SHARE: u32 = 64;
/// Those of all namespaces. Beyond it, each has a sixteenth of its share.
const OPENING_ROOM: u32 = 4;

/// Sizes and filters that are fixed at load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// Size of the ring: a power of two of at least 4096. The loader makes it one page where pages are larger.
    pub ring_bytes: u32,
    /// Flows in the table; each takes 512 bytes when it exists, and 16 when it does not.
    pub flows: u32,
    /// Bytes of each message's head that are copied.
    pub head_bytes: u32,
    /// Datagrams copied per direction of a UDP flow that is not DNS.
    pub udp_datagrams: u32,
    /// When not empty: only flows with one of these ports at either end are copied. All are counted.
    pub include_ports: Vec<RangeInclusive<u16>>,
    /// Flows with one of these ports at either end are counted only.
    pub exclude_ports: Vec<RangeInclusive<u16>>,
    /// Ends that find room aside where the ring has none: with 4,096, those of 150 ms in which nobody takes any, at
    /// 28,000 a second. Each takes 176 bytes.
    pub aside: u32,
    /// Look at packets of the node's own sockets that have an address of the loopback, too.
    pub loopback: bool,
}

impl Default for KernelConfig {
    fn default() -> Self {
        KernelConfig {
            ring_bytes: 8 << 20,
            flows: 1 << 16,
            head_bytes: 4096,
            udp_datagrams: 2,
            include_ports: Vec::new(),
            exclude_ports: Vec::new(),
            aside: 4096,
            loopback: false,
        }
    }
}

/// What user space wants of single flows, as it was set.
#[derive(Debug, Default)]
pub(super) struct Overridden {
    pub flows: HashMap<FlowKey, wire::Override, foldhash::fast::RandomState>,
    /// In the order of their places in `pilotfish_frames`.
    pub walks: Vec<&'static Walk>,
    /// Servers whose new connections are copied whole.
    pub servers: HashSet<Endpoint, foldhash::fast::RandomState>,
    /// Slots of which nothing is copied.
    pub quiet: BTreeSet<Slot>,
}

/// What the parts of the door have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub flows: Map,
    pub overrides: Map,
    pub walks: Map,
    pub frames: Map,
    pub overridden: Mutex<Overridden>,
    pub stats: Map,
    pub seen: Map,
    pub aside: Map,
    /// Only the programs use it.
    pub answers: MapData,
    ports: Map,
    pub cpus: usize,
    pub control_map: Map,
    pub control: ControlPage,
    pub malformed: AtomicU64,
}

impl Shared {
    /// `map` gives out a map of the object. Programs that are loaded later name it by the number of
    /// its descriptor, so it lives as long as they can be.
    pub(super) fn new(map: &mut impl FnMut(&'static str) -> Result<MapData, LoadError>) -> Result<Shared, LoadError> {
        let cpus =
            aya::util::nr_cpus().map_err(|(_, error)| LoadError::Setup { act: "count the CPUs", source: error })?;
        let control_map = Map::new(map("pilotfish_control")?, 4, size_of::<wire::Control>());
        let control = ControlPage::map(&control_map).map_err(setup("map pilotfish_control"))?;
        Ok(Shared {
            flows: Map::new(map("pilotfish_flows")?, size_of::<wire::Key>(), size_of::<wire::Flow>()),
            overrides: Map::new(map("pilotfish_override")?, size_of::<wire::Key>(), size_of::<wire::Override>()),
            walks: Map::new(map("pilotfish_walks")?, size_of::<wire::Key>(), size_of::<wire::Walk>()),
            frames: Map::new(map("pilotfish_frames")?, 4, size_of::<wire::Frames>()),
            overridden: Mutex::default(),
            stats: Map::new(map("pilotfish_stats")?, 4, wire::CPU_BYTES * cpus),
            seen: Map::new(map("pilotfish_seen")?, 4, size_of::<u64>() * cpus),
            aside: Map::new(map("pilotfish_aside")?, 0, size_of::<wire::Closed>()),
            answers: map("pilotfish_answers")?,
            ports: Map::new(map("pilotfish_ports")?, 4, wire::PORTS),
            cpus,
            control_map,
            control,
            malformed: AtomicU64::new(0),
        })
    }

    pub(super) fn configure(&self, config: &KernelConfig) -> Result<(), LoadError> {
        let mut control = wire::Control::new_zeroed();
        control.head_bytes = config.head_bytes;
        control.udp_datagrams = config.udp_datagrams;
        control.wake_bytes = config.ring_bytes / 2;
        control.data_bytes = config.ring_bytes - config.ring_bytes / ENDS_SHARE;
        control.loopback = u32::from(config.loopback);
        control.opening_share = (config.flows / OPENING_SHARE).max(16);
        control.opening_room = (config.flows / OPENING_ROOM).max(16);
        control.flows_room = config.flows;
        let zero = 0u32.to_ne_bytes();
        self.control_map.update(&zero, control.as_bytes()).map_err(setup("write pilotfish_control"))?;
        self.ports.update(&zero, &port_marks(config)).map_err(setup("write pilotfish_ports"))
    }
}

fn port_marks(config: &KernelConfig) -> Vec<u8> {
    let unlisted = if config.include_ports.is_empty() { wire::PORT_INCLUDED } else { 0 };
    let mut marks = vec![unlisted; wire::PORTS];
    let lists = [(&config.include_ports, wire::PORT_INCLUDED), (&config.exclude_ports, wire::PORT_EXCLUDED)];
    for (ranges, mark) in lists {
        for range in ranges {
            let bytes = usize::from(*range.start())..=usize::from(*range.end());
            marks.get_mut(bytes).unwrap_or_default().iter_mut().for_each(|byte| *byte |= mark);
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_of_ports_all_are_included() {
        let marks = port_marks(&KernelConfig { exclude_ports: vec![22..=22], ..Default::default() });
        assert_eq!((marks[80], marks[22]), (wire::PORT_INCLUDED, wire::PORT_INCLUDED | wire::PORT_EXCLUDED));
    }

    #[test]
    fn a_list_of_ports_leaves_the_others_out() {
        let marks = port_marks(&KernelConfig { include_ports: vec![80..=81, 65535..=65535], ..Default::default() });
        assert_eq!([79, 80, 81, 82, 65535].map(|port: usize| marks[port]), [0, 2, 2, 0, 2]);
    }
}
