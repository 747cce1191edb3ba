//! What each family of exchanges is called and how a record becomes labels: descriptions, without a
//! series or a table in them. Whoever counts, keeps, restores or shows exchanges walks over
//! `FAMILIES`.
//!
//! Names are OpenTelemetry's, in the form that Prometheus gives them; what OpenTelemetry has no
//! word for begins with `pilotfish_`.

mod channel;
mod db;
mod dns;
mod family;
mod http;
mod messaging;
mod rpc;
mod tls;
mod value;

pub(crate) use dns::rcode_name;
pub(crate) use family::{Cell, Family, GivesUp, Step};
pub(crate) use http::ROUTE;
pub(crate) use value::{Described, ERROR, MOST_LABELS, Value};

use flow_model::{Detail, L7Record};

/// Place in `FAMILIES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FamilyId {
    Http,
    Dns,
    Rpc,
    Db,
    Messaging,
    Tls,
    Channel,
}

impl FamilyId {
    pub(crate) const ALL: [FamilyId; 7] = [
        FamilyId::Http,
        FamilyId::Dns,
        FamilyId::Rpc,
        FamilyId::Db,
        FamilyId::Messaging,
        FamilyId::Tls,
        FamilyId::Channel,
    ];

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn family(self) -> &'static Family {
        match self {
            FamilyId::Http => &http::FAMILY,
            FamilyId::Dns => &dns::FAMILY,
            FamilyId::Rpc => &rpc::FAMILY,
            FamilyId::Db => &db::FAMILY,
            FamilyId::Messaging => &messaging::FAMILY,
            FamilyId::Tls => &tls::FAMILY,
            FamilyId::Channel => &channel::FAMILY,
        }
    }

    pub(crate) fn named(name: &str) -> Option<FamilyId> {
        FamilyId::ALL.into_iter().find(|id| id.family().name == name)
    }
}

/// Whether golden metrics call it failed: it has an `error_type` there.
#[must_use]
pub fn failed(record: &L7Record) -> bool {
    describe(record).1.value(ERROR) != Value::None
}

/// The family of a record and its labels. Allocates nothing: it is asked for each exchange.
#[inline]
pub(crate) fn describe(record: &L7Record) -> (FamilyId, Described<'_>) {
    let outcome = record.outcome;
    match &record.detail {
        Detail::Http(http) => (FamilyId::Http, http::describe(outcome, http)),
        Detail::Dns(dns) => (FamilyId::Dns, dns::describe(outcome, dns)),
        Detail::Rpc(call) => (FamilyId::Rpc, rpc::describe(outcome, call)),
        Detail::Db(operation) => (FamilyId::Db, db::describe(outcome, operation)),
        Detail::Messaging(operation) => (FamilyId::Messaging, messaging::describe(outcome, operation)),
        Detail::Tls(handshake) => (FamilyId::Tls, tls::describe(outcome, handshake)),
        Detail::Channel(traffic) => (FamilyId::Channel, channel::describe(record.protocol, traffic)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn families_have_names_of_their_own_and_no_more_labels_than_fit() {
        let names: BTreeSet<&str> = FamilyId::ALL.map(|id| id.family().name).into();
        assert_eq!(names.len(), FamilyId::ALL.len());
        for (i, id) in FamilyId::ALL.into_iter().enumerate() {
            let family = id.family();
            assert_eq!((id.index(), FamilyId::named(family.name)), (i, Some(id)));
            assert!(family.labels.len() <= MOST_LABELS, "{}", family.name);
            let labels: BTreeSet<&str> = family.places().map(|(_, name, _)| name).collect();
            assert_eq!(labels.len(), family.labels.len() + 1, "{}", family.name);
        }
    }

    /// Names from traffic are bounded by a cap, which a stand-in for what exceeds a cap must not
    /// need.
    #[test]
    fn no_stand_in_has_a_label_of_free_text() {
        for label in FamilyId::ALL.iter().flat_map(|id| id.family().labels) {
            assert!(!(label.over_cap && matches!(label.set, value::Set::Free(_))), "{}", label.name);
        }
    }

    /// And no text of an open set is two values, which would be two series.
    #[test]
    fn what_is_shown_is_read_as_the_value_that_it_was() {
        for (_, name, set) in FamilyId::ALL.iter().flat_map(|id| id.family().places()) {
            let words: &[&str] = match set {
                value::Set::Words(words) | value::Set::Free(words) => words,
                value::Set::Numbers(..) => &["500"],
            };
            assert!(words.len() <= 256, "{name}");
            for word in words {
                let value = set.read(word).unwrap();
                assert_eq!(set.show(value).as_deref(), Some(*word), "{name}");
                assert_eq!(set.read(&set.show(value).unwrap()), Some(value), "{name}");
            }
        }
    }

    #[test]
    fn cells_are_counted_in_the_order_of_their_list() {
        assert_eq!(Cell::ALL.map(Cell::index), std::array::from_fn(|i| i));
    }
}
