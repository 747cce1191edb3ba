//! A client of PostgreSQL that asks one thing at a time, or several in a pipeline: `sql HOST:PORT`.
//! Prints at its end how much it sent (logins, simple queries, Executes) and what came of it.
#![forbid(unsafe_code)]

mod connection;

use anyhow::{Context, Result, bail};
use connection::Connection;
use std::path::PathBuf;
use std::time::Duration;

struct Options {
    target: String,
    gate: Option<PathBuf>,
    connections: usize,
    /// Executes of each connection, and as many simple queries.
    count: usize,
    /// Executes that are under way together.
    at_once: usize,
    /// Bytes of each row.
    size: usize,
}

#[allow(clippy::print_stdout, reason = "the result is this program's output")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let target = args.next().context("sql HOST:PORT")?;
    let mut options = Options { target, gate: None, connections: 1, count: 1, at_once: 1, size: 10 };
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--gate" => options.gate = Some(value.into()),
            "--connections" => options.connections = value.parse()?,
            "--count" => options.count = value.parse()?,
            "--at-once" => options.at_once = value.parse()?,
            "--size" => options.size = value.parse()?,
            other => bail!("unknown option {other}"),
        }
    }
    if let Some(gate) = &options.gate {
        testbed::until("the gate opens", Duration::MAX, || gate.exists())?;
    }
    let mut told = Told::default();
    for _ in 0..options.connections {
        let mut connection = Connection::login(&options.target)?;
        told.sent += 1;
        told.answered += 1;
        for number in 0..options.count {
            connection.query(&statement(number, options.size))?;
            told.sent += 1;
            told.hear(&mut connection, 1)?;
        }
        let numbers: Vec<usize> = (0..options.count).collect();
        for batch in numbers.chunks(options.at_once.max(1)) {
            connection.pipeline(batch.iter().map(|number| statement(*number, options.size)))?;
            told.sent += batch.len();
            told.hear(&mut connection, batch.len())?;
        }
        connection.quit()?;
    }
    let Told { sent, answered, failed } = told;
    println!("{}", serde_json::json!({"sent": sent, "answered": answered, "failed": failed}));
    Ok(())
}

/// Each tenth one fails.
fn statement(number: usize, size: usize) -> String {
    match number % 10 {
        9 => "SELECT 1 / 0".to_owned(),
        _ => format!("SELECT repeat('x', {size}) FROM generate_series(1, 3)"),
    }
}

#[derive(Default)]
struct Told {
    sent: usize,
    answered: usize,
    failed: usize,
}

impl Told {
    /// Waits until the server has said `times` that it is ready.
    fn hear(&mut self, connection: &mut Connection, times: usize) -> Result<()> {
        let (answered, failed) = connection.ready(times)?;
        self.answered += answered + failed;
        self.failed += failed;
        Ok(())
    }
}
