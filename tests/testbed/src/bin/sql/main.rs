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
    /// Bytes of a SELECT, of a COPY from the server and of one to it, at the end of each connection.
    bulk: usize,
}

#[allow(clippy::print_stdout, reason = "the result is this program's output")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let target = args.next().context("sql HOST:PORT")?;
    let mut options = Options { target, gate: None, connections: 1, count: 1, at_once: 1, size: 10, bulk: 0 };
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--gate" => options.gate = Some(value.into()),
            "--connections" => options.connections = value.parse()?,
            "--count" => options.count = value.parse()?,
            "--at-once" => options.at_once = value.parse()?,
            "--size" => options.size = value.parse()?,
            "--bulk" => options.bulk = value.parse()?,
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
        if options.bulk > 0 {
            // The agent has to know the connection first: what comes in its first milliseconds is not followed yet.
            std::thread::sleep(Duration::from_millis(100));
            told.bulk(&mut connection, options.bulk, options.size)?;
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
    /// Rows of `size` bytes, their heads included, that make so many bytes in all; between what is short.
    fn bulk(&mut self, connection: &mut Connection, bytes: usize, size: usize) -> Result<()> {
        let (count, text) = (bytes / size, size.saturating_sub(11));
        let rows = format!("SELECT repeat('x', {text}) FROM generate_series(1, {count})");
        for statement in [&*rows, &format!("COPY ({rows}) TO STDOUT"), "CREATE TEMPORARY TABLE bulk (a text)"] {
            connection.query(statement)?;
            self.sent += 1;
            self.hear(connection, 1)?;
        }
        connection.query("COPY bulk FROM STDIN")?;
        self.sent += 1;
        connection.copy(&"x".repeat(size.saturating_sub(6)), count)?;
        self.hear(connection, 1)?;
        connection.pipeline(std::iter::repeat_n(rows, 2))?;
        self.sent += 2;
        self.hear(connection, 2)
    }

    /// Waits until the server has said `times` that it is ready.
    fn hear(&mut self, connection: &mut Connection, times: usize) -> Result<()> {
        let (answered, failed) = connection.ready(times)?;
        self.answered += answered + failed;
        self.failed += failed;
        Ok(())
    }
}
