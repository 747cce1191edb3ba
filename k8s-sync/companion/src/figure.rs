//! One figure of a workload or a Service over all nodes, or why there is none.
//!
//! Whoever scales by a sum that lacks a node scales down while the load stays. So a figure is whole, or
//! it is not told: each node that runs a pod of what is asked for has to push.

use crate::fleet::Fleet;
use crate::node::Node;
use crate::placed::{Here, Places};
use crate::shown::Standing;
use flow_model::WorkloadKind;
use golden_metrics::{Answering, Belongs, Rate, RowKey, Sees};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Requests a second.
    Rate,
    /// Of answers, seconds.
    P95,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// In the unit of its measure.
    pub value: f64,
}

/// Why a node that runs pods tells nothing of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// No agent has joined.
    Uncovered,
    /// Three pushes are missing.
    Silent(Duration),
    /// Its agent ended, with this code, and said why.
    Ended(u32, String),
    /// Its agent begins: what it has counted since is not whole yet.
    Begins,
    /// Its agent does not observe all that runs there.
    Part,
    /// Its agent has no names of the cluster, which it needs for what a Service was asked.
    Nameless,
    /// Its agent does not know by which Service it was asked.
    NoService,
}

/// Why there is no figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is not known which nodes there are, or where pods run; or that is as old as this.
    Unknown(Option<Duration>),
    /// No pod of it runs.
    NoPods,
    /// These nodes run pods of it and tell nothing of them.
    Nodes(Vec<(String, Gap)>),
    /// Nobody asked it by HTTP of late, as far as can be read.
    NoRequests,
    /// None was answered of late.
    NoAnswers,
}

/// As many nodes are named.
const NAMED: usize = 3;

impl Measure {
    /// Each once.
    pub const ALL: [Measure; 2] = [Measure::Rate, Measure::P95];

    /// As an HPA names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measure::Rate => "http_requests_per_second",
            Measure::P95 => "http_request_duration_seconds_p95",
        }
    }

    /// `None`: there is none of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|measure| measure.name() == name)
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::Uncovered => f.write_str("no agent has joined from it"),
            // In tens: it is no news each time that somebody asks.
            Gap::Silent(since) => write!(f, "it has been silent for {} s", since.as_secs() / 10 * 10),
            Gap::Ended(code, text) => write!(f, "its agent ended with exit code {code}: {text}"),
            Gap::Begins => f.write_str("its agent has just joined"),
            Gap::Part => f.write_str("its agent does not observe all of its containers yet"),
            Gap::Nameless => f.write_str("its agent has no names of the cluster yet"),
            Gap::NoService => f.write_str("its agent cannot tell by which Service it was asked"),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Unknown(None) => f.write_str("the companion has not read yet where pods run"),
            Missing::Unknown(Some(age)) => {
                write!(f, "where pods run is known as it was {} s ago", age.as_secs() / 10 * 10)
            }
            Missing::NoPods => f.write_str("no pod of it runs"),
            Missing::Nodes(nodes) => {
                f.write_str("a sum would lack a part")?;
                for (node, gap) in nodes.iter().take(NAMED) {
                    write!(f, "; node {node} runs pods of it, and {gap}")?;
                }
                match nodes.len().saturating_sub(NAMED) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more nodes"),
                }
            }
            Missing::NoRequests => f.write_str("no HTTP request to it was counted of late"),
            Missing::NoAnswers => f.write_str("no HTTP request to it was answered of late"),
        }
    }
}

impl Fleet {
    /// The figure of what runs at `places`.
    ///
    /// # Errors
    /// When there is none that is whole.
    pub fn figure(
        &self,
        now: Duration,
        answering: &Answering,
        measure: Measure,
        places: &Places,
    ) -> Result<Figure, Missing> {
        let Some(known) = &self.known else { return Err(Missing::Unknown(None)) };
        let (mut sum, mut gaps, mut is_asked, mut runs) = (Rate::default(), Vec::new(), false, false);
        // A node that was deleted runs nothing, whatever is still said of its pods.
        for (name, here) in places.iter().filter(|(name, _)| known.contains(&***name)) {
            runs = true;
            let told = match self.nodes.get(&**name) {
                None => Err(Gap::Uncovered),
                Some(node) => node.told(now, self.config.silence(), answering, here),
            };
            match told {
                Ok((rate, asked)) => {
                    sum.add(&rate);
                    is_asked |= asked;
                }
                Err(gap) => gaps.push((name.to_string(), gap)),
            }
        }
        if !runs {
            return Err(Missing::NoPods);
        }
        if !gaps.is_empty() {
            return Err(Missing::Nodes(gaps));
        }
        // What ran elsewhere a moment ago was asked there.
        let elsewhere = self.nodes.iter().filter(|(name, _)| !places.contains_key(&***name));
        let elsewhere = elsewhere.filter_map(|(_, node)| match node.is_live(now, self.config.silence()) {
            true => node.served.as_ref()?.rate(answering, &BTreeSet::new()),
            false => node.served.as_ref()?.left(now, answering),
        });
        let departed = self.departed.iter().filter_map(|served| served.left(now, answering));
        elsewhere.chain(departed).for_each(|rate| sum.add(&rate));
        if !is_asked && sum.per_second <= 0.0 {
            return Err(Missing::NoRequests);
        }
        let value = match measure {
            Measure::Rate => sum.per_second,
            Measure::P95 => sum.latency.quantile(0.95).ok_or(Missing::NoAnswers)?,
        };
        Ok(Figure { value })
    }
}

impl Node {
    /// What it answered, and whether it is known to be asked at all.
    fn told(&self, now: Duration, silence: Duration, answering: &Answering, here: &Here) -> Result<(Rate, bool), Gap> {
        match self.row("", now, silence).standing {
            Standing::Live => {}
            Standing::Silent { since } => return Err(Gap::Silent(since)),
            Standing::Ended { code, text } => return Err(Gap::Ended(code, text)),
            Standing::Absent => return Err(Gap::Uncovered),
        }
        let rate = self.served.as_ref().filter(|_| self.replica.is_watched());
        let rate = rate.and_then(|served| served.rate(answering, &here.pods)).ok_or_else(|| self.gap(answering))?;
        let (mut is_asked, mut perhaps) = (false, false);
        for key in self.series().filter_map(|(name, _)| name.row()) {
            match (key.counts_for(answering), answering) {
                (Belongs::Yes, _) => is_asked = true,
                (Belongs::Perhaps, _) => perhaps |= here.has(key),
                // A pod of it, of whose controller its node has not heard yet.
                (Belongs::No, Answering::Workload { namespace, .. }) => is_asked |= here.has_pod(key, namespace),
                (Belongs::No, Answering::Service { .. }) => {}
            }
        }
        if perhaps && !is_asked {
            return Err(Gap::NoService);
        }
        Ok((rate, is_asked))
    }

    /// Why what it counted of late is no rate.
    fn gap(&self, answering: &Answering) -> Gap {
        match (self.served.as_ref().and_then(|served| served.sees()), answering) {
            (Some(Sees::Part), _) => Gap::Part,
            (Some(Sees::Nameless), Answering::Service { .. }) => Gap::Nameless,
            _ => Gap::Begins,
        }
    }
}

impl Here {
    /// Whether it answered, under whichever name.
    fn has(&self, key: &RowKey) -> bool {
        key.server().is_some_and(|(kind, name)| {
            let is_it = self.workloads.iter().any(|(known, workload)| *known == kind && workload == name);
            is_it || (kind == WorkloadKind::Pod.as_str() && self.pods.contains(name))
        })
    }

    /// Whether one of its pods answered by HTTP, under its own name.
    fn has_pod(&self, key: &RowKey, namespace: &str) -> bool {
        key.server().is_some_and(|(kind, name)| {
            let answering = Answering::Workload { namespace: namespace.to_owned(), kind, name: name.to_owned() };
            kind == WorkloadKind::Pod.as_str() && self.pods.contains(name) && key.counts_for(&answering) == Belongs::Yes
        })
    }
}
