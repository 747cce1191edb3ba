//! Series apart from their tables, as bytes: how an agent's series come to somebody who keeps those
//! of many.
//!
//! A key says what a series is called, and equal keys are equal bytes. A key with a word that this
//! version does not know is not read: it may be another series than it seems. A value may have fields
//! more.

mod key;
mod request;
mod value;

pub use key::RowKey;
pub(crate) use key::{EdgeName, Of};
pub use request::Request;
pub(crate) use value::Numbers;
pub use value::RowValue;

use crate::families::FamilyId;
use crate::labels::Reporter;
use crate::snapshot::Snapshot;
use flow_model::{LossReason, Protocol};

/// The bytes of a key, for tests of those who read them.
#[cfg(test)]
pub(crate) fn write_key<'a>(
    out: &mut Vec<u8>,
    family: &str,
    edge: Option<&crate::series::Edge>,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) {
    key::write(out, family, edge, labels, "");
}

impl Snapshot {
    /// Every series and every total, with its key and its value. Nothing is kept from call to call.
    pub fn rows(&self, take: &mut dyn FnMut(&[u8], &[u8])) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut row = |write_key: &dyn Fn(&mut Vec<u8>), write_value: &dyn Fn(&mut Vec<u8>)| {
            key.clear();
            value.clear();
            write_key(&mut key);
            write_value(&mut value);
            take(&key, &value);
        };
        for (id, all) in FamilyId::ALL.iter().zip(&self.published.exchanges) {
            for series in all {
                let labels = series.labels.shown.iter().map(|(name, value)| (*name, &**value));
                let labels = labels.filter(|(_, value)| !value.is_empty());
                row(&|out| key::write(out, id.family().name, Some(&series.edge), labels.clone(), ""), &|out| {
                    value::of_exchanges(out, series)
                });
            }
        }
        for series in &self.published.tcp {
            let write_key = |out: &mut Vec<u8>| key::write(out, key::TCP, Some(&series.edge), [].into_iter(), "");
            row(&write_key, &|out| value::of_tcp(out, series));
        }
        for series in &self.published.udp {
            let write_key = |out: &mut Vec<u8>| key::write(out, key::UDP, Some(&series.edge), [].into_iter(), "");
            row(&write_key, &|out| value::of_udp(out, series));
        }
        let mut total = |family: &str, labels: [(&str, &str); 2], unit: &str, total: u64| {
            row(&|out| key::write(out, family, None, labels.into_iter(), unit), &|out| value::of_total(out, total));
        };
        // The two ends at zero, too. A capture only where there is one.
        let is_there = |reporter, total| reporter != Reporter::Capture || total > 0;
        for reporter in Reporter::ALL {
            let by = ("reporter", reporter.as_str());
            for protocol in Protocol::ALL {
                let counted = self.exchanges(reporter, protocol);
                if is_there(reporter, counted) {
                    total(key::COUNTED, [by, ("protocol", protocol.as_str())], "", counted);
                }
            }
            for reason in LossReason::ALL {
                let missed = self.exchanges_lost(reporter, reason);
                if is_there(reporter, missed) {
                    total(key::MISSED, [by, ("reason", reason.as_str())], "", missed);
                }
            }
        }
        for loss in self.lost() {
            total(key::LOST, [("stage", &loss.stage), ("reason", &loss.reason)], &loss.unit, loss.total);
        }
    }
}
