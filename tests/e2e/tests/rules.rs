//! Alerts, recording rules and dashboards of the packages: each can be read by a parser of PromQL, and
//! asks only for metrics and labels that the programs say they have. Needs no root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use promql_parser::parser::{Expr, LabelModifier, VectorSelector, parse};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use testbed::Known;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

#[derive(Debug, Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    expr: String,
    record: Option<String>,
}

impl Rules {
    fn all(&self) -> impl Iterator<Item = &Rule> {
        self.groups.iter().flat_map(|group| &group.rules)
    }
}

#[derive(Debug, Deserialize)]
struct PrometheusRule {
    spec: Rules,
}

/// What an expression asks for: selectors, and the labels that it sorts by.
#[derive(Default)]
struct Asked {
    series: Vec<(String, Vec<String>)>,
    labels: BTreeSet<String>,
}

impl Asked {
    fn of(text: &str) -> Result<Asked> {
        let expr = parse(text).map_err(|error| anyhow::anyhow!("{error}: {text}"))?;
        let mut asked = Asked::default();
        asked.walk(&expr)?;
        Ok(asked)
    }

    fn selector(&mut self, selector: &VectorSelector) -> Result<()> {
        let name = selector.name.clone().context("a selector without a name")?;
        let labels = selector.matchers.matchers.iter().map(|matcher| matcher.name.clone());
        self.series.push((name, labels.filter(|label| label != "__name__").collect()));
        Ok(())
    }

    fn walk(&mut self, expr: &Expr) -> Result<()> {
        match expr {
            Expr::Aggregate(aggregate) => {
                match &aggregate.modifier {
                    Some(LabelModifier::Include(by)) => self.labels.extend(by.labels.iter().cloned()),
                    Some(LabelModifier::Exclude(_)) => bail!("without: what is left is not said"),
                    None => {}
                }
                self.walk(&aggregate.expr)
            }
            Expr::Binary(binary) => {
                self.walk(&binary.lhs)?;
                self.walk(&binary.rhs)
            }
            Expr::Call(call) => call.args.args.iter().try_for_each(|arg| self.walk(arg)),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::Paren(paren) => self.walk(&paren.expr),
            Expr::Unary(unary) => self.walk(&unary.expr),
            Expr::Subquery(subquery) => self.walk(&subquery.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(()),
            Expr::Extension(_) => bail!("an expression of another kind"),
        }
    }

    /// `recorded` are names that rules give; `of_scrape` are labels that Prometheus adds.
    fn is_known(&self, known: &Known, recorded: &BTreeSet<&str>, of_scrape: &[&str]) -> Result<()> {
        let metrics = self.series.iter().filter(|(name, _)| !recorded.contains(name.as_str()));
        for (name, labels) in metrics {
            let labels = labels.iter().chain(&self.labels).map(String::as_str);
            let of_histogram = |label: &&str| *label != "le" || name.ends_with("_bucket");
            known.admits(name, labels.filter(|label| !of_scrape.contains(label)).filter(of_histogram))?;
        }
        Ok(())
    }
}

fn hold(rules: &Rules, known: &Known, of_scrape: &[&str]) -> Result<()> {
    let recorded: BTreeSet<&str> = rules.all().filter_map(|rule| rule.record.as_deref()).collect();
    let mut count = 0;
    for rule in rules.all() {
        let asked = Asked::of(&rule.expr)?;
        ensure!(!asked.series.is_empty(), "asks for nothing: {}", rule.expr);
        asked.is_known(known, &recorded, of_scrape).with_context(|| rule.expr.clone())?;
        count += 1;
    }
    ensure!(count > 3, "the rules are not where this test looks for them");
    Ok(())
}

#[test]
fn alerts_for_nodes_ask_for_what_agents_show() -> Result<()> {
    let text = std::fs::read_to_string(packaging().join("alerts.yaml"))?;
    hold(&serde_saphyr::from_str(&text)?, Known::of_agent()?, &["instance"])
}

#[test]
fn rules_for_the_cluster_ask_for_what_the_companion_shows() -> Result<()> {
    let path = packaging().join("kubernetes/companion/monitoring/prometheusrule.yaml");
    let rule: PrometheusRule = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    hold(&rule.spec, Known::of_companion()?, &[])
}

/// Expressions of panels and of variables, as a data source gets them.
fn expressions(board: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().replace("$__rate_interval", "5m");
    let panels = list(&board["panels"]);
    let targets = panels.iter().flat_map(|panel| list(&panel["targets"])).map(|target| text(&target["expr"]));
    // label_values(SERIES, LABEL)
    let queries = list(&board["templating"]["list"]).into_iter().filter(|variable| variable["type"] == "query");
    let queries = queries.filter_map(|variable| {
        let query = text(&variable["query"]["query"]);
        let (series, label) = query.strip_prefix("label_values(")?.strip_suffix(')')?.rsplit_once(", ")?;
        Some(format!("count by ({label}) ({series})"))
    });
    targets.chain(queries).collect()
}

#[test]
fn dashboards_ask_for_what_is_shown() -> Result<()> {
    let (agent, companion) = (Known::of_agent()?, Known::of_companion()?);
    // The first is for nodes and for clusters.
    for (file, lists, of_scrape, least) in [
        ("grafana/workloads.json", vec![agent, companion], &[][..], 20),
        ("grafana/agents.json", vec![agent], &["instance"][..], 15),
    ] {
        let board: Value = serde_json::from_str(&std::fs::read_to_string(packaging().join(file))?)?;
        let all = expressions(&board);
        ensure!(all.len() >= least, "{file}: {} expressions", all.len());
        for expression in all {
            let asked = Asked::of(&expression).with_context(|| file.to_owned())?;
            for known in &lists {
                asked.is_known(known, &BTreeSet::new(), of_scrape).with_context(|| format!("{file}: {expression}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn what_nobody_shows_is_found() -> Result<()> {
    let known = Known::of_agent()?;
    for wrong in [
        "sum(rate(pilotfish_no_such_thing_total[5m]))",
        "sum by (pod) (pilotfish_tcp_open_connections)",
        "pilotfish_lost_total{place=\"kernel\"}",
        "pilotfish_ready_bucket",
    ] {
        let asked = Asked::of(wrong)?;
        ensure!(asked.is_known(known, &BTreeSet::new(), &[]).is_err(), "{wrong}");
    }
    ensure!(Asked::of("sum by (").is_err());
    Ok(())
}
