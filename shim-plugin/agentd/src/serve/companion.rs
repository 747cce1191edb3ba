//! How the agent stands with its companion, as readiness, metrics and the command line show it.
//! Reading copies some hundred bytes and asks nobody.

use agent_api as api;
use golden_metrics::{Loss, Losses, SelfMetric};
use join::names::{CopyCounts, Names, Told};
use join::{Group, PushCounts};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::mpsc;

/// Shared by the task that pushes and by whoever asks.
#[derive(Debug)]
pub struct Joining {
    /// `join.toml`
    pub file: PathBuf,
    /// As the cluster calls it.
    pub node: String,
    pub group: Group,
    /// `None` where no names are taken.
    pub names: Option<Arc<Names>>,
    /// Where they come out, for the one that keeps them.
    pub told: Mutex<Option<mpsc::Receiver<Vec<Told>>>>,
    /// Names of another version.
    pub names_unread: AtomicU64,
    /// Where pushes go, once the file was read.
    address: Mutex<String>,
    /// Why the file cannot be used.
    unread: Mutex<Option<String>>,
    series: AtomicU64,
    left_out: Loss,
    findings: AtomicU64,
    findings_left_out: Loss,
    names_left_out: Loss,
}

impl Joining {
    #[must_use]
    pub fn new((file, node): (PathBuf, String), group: Group, names: bool, losses: &Losses) -> Joining {
        let left_out = losses.place("join", "left_out", "values of series that were not pushed");
        let findings_left_out =
            losses.place("join", "findings_left_out", "findings that were not told, at each change");
        let names_left_out =
            losses.place("join", "names_left_out", "names that the companion told and for which there was no room");
        let (names, told) = names.then(Names::new).unzip();
        let names = names.map(Arc::new);
        let group = match &names {
            Some(names) => group.with_names(names.clone()),
            None => group,
        };
        Joining {
            file,
            node,
            group,
            names,
            told: Mutex::new(told),
            names_unread: AtomicU64::new(0),
            address: Mutex::default(),
            unread: Mutex::default(),
            series: AtomicU64::new(0),
            left_out,
            findings: AtomicU64::new(0),
            findings_left_out,
            names_left_out,
        }
    }

    /// What the file says, or why it says nothing. Whether that is news.
    pub fn read(&self, address: Result<&str, &str>) -> bool {
        *self.address.lock() = address.unwrap_or_default().to_owned();
        let unread = address.err().map(str::to_owned);
        let before = std::mem::replace(&mut *self.unread.lock(), unread.clone());
        before != unread
    }

    /// Notes what is pushed; to be called about once a second. May wait for a walk over the series.
    pub fn look(&self) {
        let feed = self.group.feed().lock();
        self.series.store(feed.source().series() as u64, Relaxed);
        self.left_out.set_total(feed.source().counted().lost);
        self.findings.store(feed.source().findings().len() as u64, Relaxed);
        self.findings_left_out.set_total(feed.source().findings().lost());
        drop(feed);
        if let Some(names) = &self.names {
            self.names_left_out.set_total(names.counts().1.left_out);
        }
    }

    /// Why pushes are not taken.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        let unread = self.unread.lock().clone();
        let link = self.group.first().lock();
        match (unread, link.is_open()) {
            (Some(unread), _) => Some(unread),
            (None, true) => None,
            (None, false) => Some(link.why().map_or_else(|| "not joined yet".to_owned(), ToString::to_string)),
        }
    }

    #[must_use]
    pub fn shown(&self) -> api::Companion {
        let detail = self.degraded();
        let PushCounts { answered, cut, .. } = self.group.counts();
        let replicas = self.group.open() as u64;
        let (address, link) = (self.address.lock().clone(), self.group.first().lock());
        api::Companion {
            state: if detail.is_none() { "joined" } else { "waiting" }.to_owned(),
            detail: detail.unwrap_or_default(),
            join: self.file.display().to_string(),
            address,
            version: link.companion().map(|(_, version)| version.to_owned()).unwrap_or_default(),
            series: self.series.load(Relaxed),
            pushes: answered,
            cut,
            replicas,
            credential: link.has_credential(),
        }
    }

    pub fn metrics(&self, out: &mut Vec<SelfMetric>) {
        let joined = f64::from(u8::from(self.degraded().is_none()));
        let (counts, refused) = (self.group.counts(), self.group.first().lock().refused());
        out.push(SelfMetric::gauge("pilotfish_join_joined", "1 while the companion takes pushes.", joined));
        let credential = f64::from(u8::from(self.group.first().lock().has_credential()));
        let help = "1 while the node joins by a credential of its own.";
        out.push(SelfMetric::gauge("pilotfish_join_credential", help, credential));
        let help = "Replicas of the companion that take pushes.";
        out.push(SelfMetric::gauge("pilotfish_join_replicas", help, self.group.open() as f64));
        let help = "Series that are pushed to the companion.";
        out.push(SelfMetric::gauge("pilotfish_join_series", help, self.series.load(Relaxed) as f64));
        if self.group.first().lock().takes_findings() {
            let help = "Findings that the companion is told.";
            out.push(SelfMetric::gauge("pilotfish_join_findings", help, self.findings.load(Relaxed) as f64));
        }
        let help = "Of these, series that the companion has no room for, as it says.";
        out.push(SelfMetric::gauge("pilotfish_join_refused_series", help, refused as f64));
        let PushCounts { dials, begun, answered, cut, resyncs, refused } = counts;
        let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
        count("pilotfish_join_attempts_total", "Attempts to reach the companion.", dials);
        count("pilotfish_join_pushes_total", "Pushes to the companion that began.", begun);
        let help = "Streams to the companion that it refused.";
        count("pilotfish_join_refusals_total", help, refused);
        if let Some(names) = &self.names {
            let (known, copied) = names.counts();
            let CopyCounts { changes, bytes, damaged, differing, left_out } = copied;
            self.names_left_out.set_total(left_out);
            let help = "Names that the companion has told.";
            out.push(SelfMetric::gauge("pilotfish_join_names", help, known as f64));
            let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
            let help = "Names that the companion told, changed or ended.";
            count("pilotfish_join_names_changes_total", help, changes);
            let help = "Names of another version of the companion, which are not read.";
            count("pilotfish_join_names_unread_total", help, self.names_unread.load(Relaxed));
            let help = "Bytes of names that came from the companion, compressed.";
            count("pilotfish_join_names_bytes_total", help, bytes);
            let help = "Messages with names that could not be read; the companion was asked again.";
            count("pilotfish_join_names_damaged_total", help, damaged);
            let help = "Shards of names that were another than the companion's; it was asked again.";
            count("pilotfish_join_names_differing_total", help, differing);
        }
        for (outcome, total) in [("taken", answered), ("cut", cut), ("resync", resyncs)] {
            let help = "What became of pushes. What one that was cut told goes with the next.";
            out.push(SelfMetric::counter("pilotfish_join_outcomes_total", help, total).with("outcome", outcome));
        }
    }
}
