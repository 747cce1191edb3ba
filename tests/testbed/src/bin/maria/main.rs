//! A client of MySQL and MariaDB that asks one thing at a time: `maria HOST:PORT`. Prints at its end
//! how much it sent (logins, queries, statements prepared, executed and closed) and what came of it.
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
    /// Queries of each connection, and as many executions of a prepared statement.
    count: usize,
    /// Bytes of each row.
    size: usize,
    rows: usize,
}

#[allow(clippy::print_stdout, reason = "the result is this program's output")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let target = args.next().context("maria HOST:PORT")?;
    let mut options = Options { target, gate: None, connections: 1, count: 1, size: 10, rows: 3 };
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--gate" => options.gate = Some(value.into()),
            "--connections" => options.connections = value.parse()?,
            "--count" => options.count = value.parse()?,
            "--size" => options.size = value.parse()?,
            "--rows" => options.rows = value.parse()?,
            other => bail!("unknown option {other}"),
        }
    }
    if let Some(gate) = &options.gate {
        testbed::until("the gate opens", Duration::MAX, || gate.exists())?;
    }
    let (mut sent, mut failed) = (0, 0);
    for number in 0..options.connections {
        // Every other one reads results that end with EOF packets.
        let mut connection = Connection::login(&options.target, number % 2 == 0)?;
        let row = format!("SELECT REPEAT('x', {})", options.size);
        let rows = vec![row; options.rows.max(1)].join(" UNION ALL ");
        let statement = connection.prepare("SELECT REPEAT('x', 10)")?;
        for number in 0..options.count {
            let text = if number % 10 == 9 { "SELECT secret FROM nowhere.nothing" } else { &*rows };
            failed += usize::from(!connection.query(text)?);
            failed += usize::from(!connection.execute(statement)?);
        }
        connection.close(statement)?;
        connection.quit()?;
        sent += 4 + 2 * options.count;
    }
    println!("{}", serde_json::json!({"sent": sent, "failed": failed}));
    Ok(())
}
