//! What few connections need, behind one pointer.

use super::ledger::Ledger;
use crate::http2::Upgrade;

#[derive(Debug, Default)]
pub(super) struct Seldom(Option<Box<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    /// The request that HTTP/2 answers, once that is agreed on.
    upgrade: Option<Upgrade>,
    /// Where the source counts requests.
    ledger: Option<Ledger>,
}

impl Seldom {
    pub(super) fn ledger(&mut self) -> Option<&mut Ledger> {
        self.0.as_mut()?.ledger.as_mut()
    }

    /// Whether the source counts requests.
    pub(super) fn counts(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.ledger.is_some())
    }

    pub(super) fn begin(&mut self, ledger: Ledger) {
        self.0.get_or_insert_default().ledger = Some(ledger);
    }

    pub(super) fn end(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.ledger = None;
        }
    }

    pub(super) fn agreed(&mut self, upgrade: Option<Upgrade>) {
        self.0.get_or_insert_default().upgrade = upgrade;
    }

    pub(super) fn take_upgrade(&mut self) -> Option<Upgrade> {
        self.0.as_mut()?.upgrade.take()
    }
}
