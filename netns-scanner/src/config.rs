//! What can be chosen of a scan.

use crate::target::Source;
use flow_model::Pace;
use std::sync::Arc;
use std::time::Duration;

/// Settings of the scan; they do not change while it runs.
#[derive(Clone, Debug)]
pub struct ScannerConfig {
    /// `None`: the iterator for more than `few` targets at once and sock_diag for fewer; each falls back to the next.
    pub source: Option<Source>,
    /// A dump inside one namespace costs about a quarter of a pass over the node, so up to this
    /// many it is the cheaper way.
    pub few: usize,
    /// Time that one turn of work should take.
    pub turn: Duration,
    /// Rest after each turn in multiples of its length.
    pub rest_factor: u32,
    /// Targets that may wait.
    pub queue: usize,
    /// Also hand on connections that never leave their namespace.
    pub include_loopback: bool,
    /// Start with work at once, and not with [`Scanner::release`](crate::Scanner::release).
    pub released: bool,
    /// How long one target waits for room at the receiver before its seeds count as lost.
    pub patience: Duration,
    /// Asked before each turn, and before what a turn found is handed on.
    pub pace: Option<Arc<dyn Pace>>,
}

impl Default for ScannerConfig {
    fn default() -> Self {
        // 2 ms of work, 58 ms of rest: a thirtieth of a core, a third of what an agent with a tenth
        // of one has. 20,000: as many namespaces as descriptors allow.
        ScannerConfig {
            source: None,
            few: 3,
            turn: Duration::from_millis(2),
            rest_factor: 29,
            queue: 20_000,
            include_loopback: true,
            released: true,
            patience: Duration::from_secs(2),
            pace: None,
        }
    }
}
