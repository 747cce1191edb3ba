//! Agents of many nodes that join one companion, for `cargo xtask bench companion`: `many_agents
//! JOIN_TOML NODES PODS SERIES ROUNDS`. A line of standard input is a command: `named N`, `agents N`,
//! `restart`, `mark`, `status`; each is answered by a line of JSON.
#![forbid(unsafe_code)]

mod crowd;
#[path = "../../tests/map/people.rs"]
mod people;
mod series;

use anyhow::{Context, Result, bail};
use crowd::Crowd;
use join::Ticket;
use series::{Size, Template};
use std::io::{BufRead, Write};
use tokio::runtime::Builder;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [join, nodes, pods, series, rounds] = &arguments[..] else {
        bail!("many_agents JOIN_TOML NODES PODS SERIES ROUNDS");
    };
    let ticket = Ticket::read(&std::fs::read_to_string(join).with_context(|| join.clone())?)?;
    let size = Size { nodes: nodes.parse()?, pods: pods.parse()?, series: series.parse()?, rounds: rounds.parse()? };
    let mut crowd = Crowd::new(ticket, Template::new(size));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // What answers is not among what is measured: its thread is this one.
    let _inside = runtime.enter();
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("named", count) => crowd.name(count.parse()?),
            ("agents", count) => runtime.block_on(crowd.set(count.parse()?)),
            ("restart", "") => runtime.block_on(crowd.restart()),
            ("mark", "") => crowd.mark(),
            ("status", "") => {}
            _ => bail!("{line:?} is no command"),
        }
        writeln!(out, "{}", crowd.status())?;
        out.flush()?;
    }
    // Nobody asks any more: streams end as those of a machine that is gone.
    runtime.shutdown_background();
    Ok(())
}
