//! What the table and the pods' resolvers know of one address, for a person: everything, with its
//! times, where the pipeline wants one answer.

use crate::history::History;
use crate::index::{Address, IdentityIndex, Shared};
use crate::reader::NamesReader;
use flow_model::{Identity, Names, Slot, Ts, Workload};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Pods that are named to a person; thousands may have looked up the same name.
const MOST_LEARNT: usize = 32;

/// Who holds or held an address, as containerd and the node told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressHolder {
    /// A pod's workload, the node, or one of the node's processes.
    pub who: Arc<Workload>,
    /// None: all ports.
    pub port: Option<u16>,
    /// When it was bound, by the kernel's monotonic clock; the hold itself may be older.
    pub from: Ts,
    /// None: now.
    pub until: Option<Ts>,
}

/// A pod learnt by DNS that the address has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearntName {
    /// The name that was asked for, in lower case, as a workload of kind `External`.
    pub name: Arc<Workload>,
    /// The pod's namespace, and who lives there.
    pub slot: Slot,
    /// `Unknown` where the namespace has no pod's name yet.
    pub by: Identity,
    /// When the answer was seen, by the kernel's monotonic clock.
    pub from: Ts,
    /// When the answer's time to live ends.
    pub until: Ts,
}

/// A view of an `IdentityIndex` for whoever explains addresses. Any number of threads.
#[derive(Clone, Debug)]
pub struct HolderReader(Arc<Shared>);

impl IdentityIndex {
    /// A view that follows what is bound and released later.
    #[must_use]
    pub fn holder_reader(&self) -> HolderReader {
        HolderReader(self.shared())
    }
}

impl HolderReader {
    /// All that is known, the latest first. Without a port, what holds for all ports.
    #[must_use]
    pub fn of(&self, ip: IpAddr, port: Option<u16>) -> Vec<AddressHolder> {
        let spans = |address: Address, port: Option<u16>| {
            let held = move |(who, from, until): (&Arc<Workload>, Ts, Option<Ts>)| AddressHolder {
                who: who.clone(),
                port,
                from,
                until,
            };
            let read = |history: &History| history.spans().map(held).collect();
            self.0.history(address, read).unwrap_or_default()
        };
        let mut all: Vec<AddressHolder> = spans(Address::ip(ip), None);
        if let Some(port) = port {
            all.extend(spans(Address::port(ip, port), Some(port)));
        }
        all.sort_by_key(|held| std::cmp::Reverse((held.until.is_none(), held.from)));
        all
    }

    /// Whether any pod knows any address by a DNS name: nobody needs to be asked where not.
    #[must_use]
    pub fn has_learnt_names(&self) -> bool {
        self.0.stats.dns_names.load(Ordering::Relaxed) > 0
    }
}

impl NamesReader {
    /// Pods that would call the address by a DNS name at `at`: some tens at most.
    #[must_use]
    pub fn learnt_names(&self, ip: IpAddr, at: Ts) -> Vec<LearntName> {
        let holds = |from: Ts, until: Ts| from <= at && at <= until;
        let all = self.dns().all(ip.to_canonical()).filter(|(_, _, from, until)| holds(*from, *until));
        all.take(MOST_LEARNT)
            .map(|(slot, name, from, until)| LearntName { name, slot, by: self.local(slot), from, until })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Addresses, Limits};
    use flow_model::WorkloadKind;

    fn pod(name: &str) -> Arc<Workload> {
        Arc::new(Workload { namespace: "shop".into(), name: name.into(), kind: WorkloadKind::Pod, pod: name.into() })
    }

    #[test]
    fn holders_are_told_with_their_times_and_the_one_of_now_first() {
        let mut index = IdentityIndex::new(Limits::default());
        let ip: IpAddr = "10.0.0.1".parse().expect("an address");
        let old = index.bind(Address::ip(ip), pod("old"), Ts(1));
        index.release(old, Ts(5));
        let _kept = index.bind(Address::ip(ip), pod("new"), Ts(6));
        let _kept = index.bind(Address::port(ip, 80), pod("proxy"), Ts(2));
        let shown = |port| -> Vec<(String, u64, Option<u64>)> {
            let row = |held: AddressHolder| (held.who.name.to_string(), held.from.0, held.until.map(|until| until.0));
            index.holder_reader().of(ip, port).into_iter().map(row).collect()
        };
        assert_eq!(shown(None), [("new".to_owned(), 6, None), ("old".to_owned(), 1, Some(5))]);
        assert_eq!(
            shown(Some(80)),
            [("new".to_owned(), 6, None), ("proxy".to_owned(), 2, None), ("old".to_owned(), 1, Some(5))]
        );
    }

    #[test]
    fn who_learnt_a_name_by_dns_is_told_while_it_holds() {
        let mut index = IdentityIndex::new(Limits::default());
        assert!(index.set_slot(Slot(3), Identity::Known(pod("web")), None));
        let mut reader = index.reader(Addresses::ByClass);
        let ip: IpAddr = "192.0.2.7".parse().expect("an address");
        assert!(!index.holder_reader().has_learnt_names());
        reader.dns_answer(Slot(3), "example.org", &[ip], 60, Ts(10));
        let learnt = reader.learnt_names(ip, Ts(20));
        assert!(index.holder_reader().has_learnt_names());
        assert_eq!(learnt.len(), 1);
        assert_eq!((learnt[0].name.name.as_ref(), &learnt[0].by), ("example.org", &Identity::Known(pod("web"))));
        assert_eq!(reader.learnt_names(ip, Ts(70_000_000_000)), []);
    }
}
