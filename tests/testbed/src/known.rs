//! Which metrics a program says that it may show, and whether a page or a rule keeps to it.

use crate::exposition::{Exposition, Sample};
use crate::programs::built_binary;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::OnceLock;

#[derive(Clone, Debug)]
struct Metric {
    is_histogram: bool,
    labels: BTreeSet<String>,
}

/// What `pilotfish agent --print-metrics` or `pilotfish-companion metrics` prints.
#[derive(Clone, Debug, Default)]
pub struct Known(BTreeMap<String, Metric>);

impl Known {
    pub fn of_agent() -> Result<&'static Known> {
        static KNOWN: OnceLock<Result<Known, String>> = OnceLock::new();
        asked(&KNOWN, "pilotfish", &["agent", "--print-metrics"])
    }

    pub fn of_companion() -> Result<&'static Known> {
        static KNOWN: OnceLock<Result<Known, String>> = OnceLock::new();
        asked(&KNOWN, "pilotfish-companion", &["metrics"])
    }

    fn read(program: &str, args: &[&str]) -> Result<Known> {
        let output = Command::new(built_binary(program)?).args(args).output()?;
        ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let mut known = BTreeMap::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let mut words = line.split(' ');
            let (name, kind) = words.next().zip(words.next()).with_context(|| format!("not a metric: {line}"))?;
            let labels = words.next().unwrap_or_default().split(',').map(str::to_owned).collect();
            known.insert(name.to_owned(), Metric { is_histogram: kind == "histogram", labels });
        }
        Ok(Known(known))
    }

    /// The metric that series with this name are of, if there is one.
    fn metric(&self, series: &str) -> Option<&Metric> {
        let of_histogram = || {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end))?;
            self.0.get(name).filter(|metric| metric.is_histogram)
        };
        self.0.get(series).or_else(of_histogram)
    }

    /// Whether series of this name may be there with these labels.
    pub fn admits<'a>(&self, series: &str, labels: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let metric = self.metric(series).with_context(|| format!("{series} is in no list of metrics"))?;
        for label in labels {
            let is_bound = label == "le" && series.ends_with("_bucket");
            ensure!(is_bound || metric.labels.contains(label), "{series} has a label {label} that is in no list");
        }
        Ok(())
    }

    pub fn admits_page(&self, page: &Exposition) -> Result<()> {
        page.samples
            .iter()
            .try_for_each(|Sample { name, labels, .. }| self.admits(name, labels.keys().map(String::as_str)))
    }
}

fn asked(known: &'static OnceLock<Result<Known, String>>, program: &str, args: &[&str]) -> Result<&'static Known> {
    let known = known.get_or_init(|| Known::read(program, args).map_err(|error| format!("{error:#}")));
    known.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}
