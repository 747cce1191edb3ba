//! What the cluster's table keeps of an edge beside its golden figures, for who asks of that edge.

use crate::histogram::HistogramSnapshot;
use crate::labels::{ERROR_TYPE, OTHER};
use crate::parts::{OK, STATUS};
use crate::rows::{Numbers, Of, RowKey, RowValue};
use std::collections::BTreeMap;

/// Statuses of an edge in a step. What agents push is bounded by their caps; a hostile one has none.
const CODES: usize = 128;
/// Labels that say which system spoke. A family has one of them at most.
const SYSTEM: [&str; 4] = ["db_system_name", "rpc_system_name", "messaging_system", "network_protocol_name"];

/// What is kept of an edge in a step beside its `Stats`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) codes: BTreeMap<Code, u64>,
    pub(crate) numbers: Numbers,
    /// How long TCP's took.
    pub(crate) handshakes: HistogramSnapshot,
}

/// What was answered, and by which system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Code {
    pub(crate) system: Box<str>,
    pub(crate) status: Box<str>,
    pub(crate) is_failure: bool,
}

impl Extra {
    pub(crate) fn count(&mut self, key: &RowKey, value: &RowValue, requests: u64) {
        if let Of::Exchanges(_) = key.of {
            let label = |names: &[&str]| names.iter().find_map(|name| key.label(name));
            let error = key.label(ERROR_TYPE);
            let code = Code {
                system: label(&SYSTEM).unwrap_or_default().into(),
                status: label(&STATUS).or(error).unwrap_or(OK).into(),
                is_failure: error.is_some(),
            };
            self.add_code(code, requests);
        } else if key.of == Of::Tcp {
            self.handshakes.add(&value.histogram);
        }
        self.numbers.add(&value.numbers);
    }

    fn add_code(&mut self, code: Code, requests: u64) {
        let is_room = self.codes.len() < CODES || self.codes.contains_key(&code);
        let code = if is_room { code } else { Code { system: OTHER.into(), status: OTHER.into(), ..code } };
        let count = self.codes.entry(code).or_default();
        *count = count.saturating_add(requests);
    }

    pub(crate) fn add(&mut self, other: &Extra) {
        other.codes.iter().for_each(|(code, requests)| self.add_code(code.clone(), *requests));
        self.numbers.add(&other.numbers);
        self.handshakes.add(&other.handshakes);
    }

    /// Exchanges of the edge that are in no series.
    pub(crate) fn lost(&self) -> u64 {
        self.numbers.lost
    }
}
