//! What is kept of an object. A pod takes 96 bytes and shares the names of its owner and node with
//! its like; readers get whole names made of it when they ask.

use crate::cluster::object::Uid;
use arc_swap::ArcSwapOption;
use flow_model::{Workload, WorkloadKind};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A moment by the observations' clock, in nanoseconds. Signed: a pod may be older than the machine that asks about it.
pub(super) type At = i64;

/// An address; IPv4 mapped into IPv6 is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    V4(u32),
    V6([u8; 16]),
}

impl Key {
    pub(super) fn of(ip: IpAddr) -> Key {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Key::V4(ip.to_bits()),
            IpAddr::V6(ip) => Key::V6(ip.octets()),
        }
    }

    /// Stands for `port` on every node: an address of a reserved multicast scope (RFC 4291 section
    /// 2.7), which nobody can hold.
    pub(super) fn node_port(port: u16) -> Key {
        let [high, low] = port.to_be_bytes();
        Key::V6([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low])
    }

    /// As an IPv6 address.
    pub(super) fn octets(self) -> [u8; 16] {
        match self {
            Key::V4(ip) => Ipv4Addr::from_bits(ip).to_ipv6_mapped().octets(),
            Key::V6(octets) => octets,
        }
    }

    pub(super) fn from_octets(octets: [u8; 16]) -> Key {
        Key::of(octets.into())
    }
}

/// Whom a pod's traffic is counted for.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) namespace: Arc<str>,
    /// Empty: the pods have none, each goes by its own name.
    pub(super) name: Arc<str>,
    pub(super) kind: WorkloadKind,
    /// The CronJob of a Job, once it is known.
    pub(super) above: ArcSwapOption<Owner>,
}

/// A node's name, shared by its pods.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Arc<str>,
}

impl Node {
    pub(super) fn workload(&self) -> Arc<Workload> {
        Arc::new(Workload { namespace: "".into(), name: self.name.clone(), kind: WorkloadKind::Node, pod: "".into() })
    }
}

/// Most names of pods are their owner's and up to 22 bytes more ("-6d4cf56db6-abcde").
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tail {
    Short { len: u8, bytes: [u8; 22] },
    Long(Box<str>),
}

impl Tail {
    fn of(text: &str) -> Tail {
        let mut bytes = [0; 22];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(text.as_bytes());
                Tail::Short { len, bytes }
            }
            _ => Tail::Long(text.into()),
        }
    }

    fn text(&self) -> &str {
        match self {
            // Made of a whole text by `of`.
            Tail::Short { len, bytes } => {
                bytes.get(..usize::from(*len)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
            }
            Tail::Long(text) => text,
        }
    }
}

/// What only some pods have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extra {
    /// Besides its first IPv4 address.
    pub(super) ips: Box<[Key]>,
    pub(super) ports: Box<[u16]>,
    pub(super) static_uid: Option<Uid>,
}

/// `Pod::seen` of one that exists no more.
const GONE: u32 = u32::MAX;

/// Never changed but for `seen`: a pod that changes is replaced.
#[derive(Debug)]
pub(super) struct Pod {
    /// As two words, which need no padding.
    uid: [u64; 2],
    pub(super) owner: Arc<Owner>,
    pub(super) node: Option<Arc<Node>>,
    /// Since 1970 in seconds by the API's clocks.
    pub(super) started: u32,
    /// The list that had it last.
    seen: AtomicU32,
    /// Its first IPv4 address, 0 for none.
    ipv4: u32,
    tail: Tail,
    extra: Option<Box<Extra>>,
    /// Bytes of the owner's name that its own begins with.
    prefix: u8,
    pub(super) host_network: bool,
    pub(super) ended: bool,
    /// The API told no start: `started` is when it was first seen.
    pub(super) guessed: bool,
}

/// With the two counts of its `Arc` 96 bytes.
const _: () = assert!(size_of::<Pod>() <= 80);

/// A pod in parts, to make one of.
#[derive(Debug)]
pub(super) struct PodParts {
    pub(super) uid: Uid,
    pub(super) name: String,
    pub(super) owner: Arc<Owner>,
    pub(super) node: Option<Arc<Node>>,
    pub(super) started: u32,
    pub(super) guessed: bool,
    pub(super) ips: Vec<Key>,
    pub(super) ports: Vec<u16>,
    pub(super) static_uid: Option<Uid>,
    pub(super) host_network: bool,
    pub(super) ended: bool,
}

impl Pod {
    pub(super) fn new(parts: PodParts, seen: u32) -> Pod {
        let PodParts { uid, name, owner, node, started, guessed, ips, ports, static_uid, host_network, ended } = parts;
        let common = name.bytes().zip(owner.name.bytes()).take_while(|(a, b)| a == b).count().min(usize::from(u8::MAX));
        let common = name.floor_char_boundary(owner.name.floor_char_boundary(common));
        let is_short = |key: &Key| matches!(key, Key::V4(ip) if *ip != 0);
        let short = ips.iter().copied().find(is_short);
        let ips = ips.into_iter().filter(|key| Some(*key) != short).collect();
        let extra = Extra { ips, ports: ports.into(), static_uid };
        Pod {
            uid: [(uid.bits() >> 64) as u64, uid.bits() as u64],
            tail: Tail::of(name.get(common..).unwrap_or(&name)),
            prefix: u8::try_from(common).unwrap_or(0),
            owner,
            node,
            started,
            seen: AtomicU32::new(seen),
            ipv4: if let Some(Key::V4(ip)) = short { ip } else { 0 },
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
            host_network,
            ended,
            guessed,
        }
    }

    pub(super) fn uid(&self) -> Uid {
        let [high, low] = self.uid;
        Uid::from_bits(u128::from(high) << 64 | u128::from(low))
    }

    pub(super) fn fold(&self) -> u64 {
        self.uid().fold()
    }

    pub(super) fn ips(&self) -> impl Iterator<Item = Key> {
        let short = (self.ipv4 != 0).then_some(Key::V4(self.ipv4));
        short.into_iter().chain(self.extra.iter().flat_map(|extra| extra.ips.iter().copied()))
    }

    pub(super) fn ports(&self) -> &[u16] {
        self.extra.as_ref().map_or(&[], |extra| &extra.ports)
    }

    pub(super) fn static_uid(&self) -> Option<Uid> {
        self.extra.as_ref().and_then(|extra| extra.static_uid)
    }

    pub(super) fn name(&self) -> Arc<str> {
        let parts = [self.owner.name.get(..usize::from(self.prefix)).unwrap_or(""), self.tail.text()];
        let mut room = [0; 128];
        let len = parts[0].len() + parts[1].len();
        // Nearly all fit, and are then allocated once.
        match room.get_mut(..len) {
            Some(room) => {
                let (first, second) = room.split_at_mut(parts[0].len());
                first.copy_from_slice(parts[0].as_bytes());
                second.copy_from_slice(parts[1].as_bytes());
                std::str::from_utf8(room).unwrap_or("").into()
            }
            None => parts.concat().into(),
        }
    }

    /// In everything that an answer is made of.
    pub(super) fn is_same(&self, other: &Pod) -> bool {
        self.uid == other.uid
            && Arc::ptr_eq(&self.owner, &other.owner)
            && self.node.as_ref().map(Arc::as_ptr) == other.node.as_ref().map(Arc::as_ptr)
            && (self.started, self.guessed, self.host_network, self.ended)
                == (other.started, other.guessed, other.host_network, other.ended)
            && (self.ipv4, self.prefix) == (other.ipv4, other.prefix)
            && self.tail == other.tail
            && self.extra == other.extra
    }

    pub(super) fn seen(&self) -> u32 {
        self.seen.load(Ordering::Relaxed)
    }

    pub(super) fn set_seen(&self, list: u32) {
        self.seen.store(list, Ordering::Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.seen() == GONE
    }

    pub(super) fn set_gone(&self) {
        self.set_seen(GONE);
    }

    pub(super) fn workload(&self) -> Arc<Workload> {
        let above = self.owner.above.load();
        let owner = above.as_ref().unwrap_or(&self.owner);
        let pod = self.name();
        let name = if owner.name.is_empty() { pod.clone() } else { owner.name.clone() };
        Arc::new(Workload { namespace: owner.namespace.clone(), name, kind: owner.kind, pod })
    }
}

/// Who answers behind a Service.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    pub(super) owner: Arc<Owner>,
    /// Of pods without an owner each is its own workload.
    pub(super) pod: Option<Arc<Pod>>,
}

impl Behind {
    pub(super) fn of(pod: &Arc<Pod>) -> Behind {
        let owner = pod.owner.above.load_full().unwrap_or_else(|| pod.owner.clone());
        Behind { pod: owner.name.is_empty().then(|| pod.clone()), owner }
    }

    pub(super) fn is_same(&self, other: &Behind) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
            && self.pod.as_ref().map(|pod| pod.uid()) == other.pod.as_ref().map(|pod| pod.uid())
    }

    fn workload(&self) -> Arc<Workload> {
        match &self.pod {
            Some(pod) => pod.workload(),
            None => {
                let Owner { namespace, name, kind, above: _ } = &*self.owner;
                Arc::new(Workload { namespace: namespace.clone(), name: name.clone(), kind: *kind, pod: "".into() })
            }
        }
    }
}

/// Who is behind a Service, and who was before.
#[derive(Debug)]
pub(super) struct Backing {
    pub(super) now: Option<Behind>,
    pub(super) since: At,
    pub(super) before: Option<Behind>,
}

/// A Service by its name: it may be told of by its slices before it is known itself.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    /// The API has it.
    pub(super) exists: AtomicBool,
    /// It has an address of its own.
    pub(super) has_address: AtomicBool,
    pub(super) backing: ArcSwapOption<Backing>,
}

impl Service {
    pub(super) fn workload(&self) -> Arc<Workload> {
        Arc::new(Workload {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            kind: WorkloadKind::Service,
            pod: "".into(),
        })
    }

    /// The one workload that served it at `at`, else the Service itself.
    pub(super) fn served_by(&self, at: At) -> Arc<Workload> {
        let backing = self.backing.load();
        let behind = backing.as_ref().and_then(|backing| match at >= backing.since {
            true => backing.now.as_ref(),
            false => backing.before.as_ref(),
        });
        behind.map_or_else(|| self.workload(), Behind::workload)
    }
}

/// What all endpoints of an EndpointSlice share.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) service: Arc<Service>,
    pub(super) ports: Box<[u16]>,
}

/// The first `most` different ones.
pub(super) fn distinct<T: Ord + Copy>(items: impl Iterator<Item = T>, most: usize) -> Vec<T> {
    let mut kept = Vec::new();
    for item in items {
        if kept.len() >= most {
            break;
        }
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept.shrink_to_fit();
    kept
}
