//! A server and a client of HTTP/2 and gRPC: `streams serve`, or `streams ask HOST:PORT` which keeps
//! several streams open at once. The client prints at its end how many it sent and what came of them.
#![forbid(unsafe_code)]

mod ask;
mod serve;

use anyhow::{Context, Result, bail};
use ask::Options;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    match args.next().as_deref() {
        Some("serve") => runtime.block_on(serve::serve()),
        Some("ask") => {
            let target = args.next().context("HOST:PORT")?;
            let mut options = Options { target, connections: 1, at_once: 1, count: 1, size: 100, ..Options::default() };
            while let Some(arg) = args.next() {
                let value = args.next().with_context(|| format!("{arg} wants a value"))?;
                match arg.as_str() {
                    "--gate" => options.gate = Some(value.into()),
                    "--connections" => options.connections = value.parse()?,
                    "--at-once" => options.at_once = value.parse()?,
                    "--count" => options.count = value.parse()?,
                    "--size" => options.size = value.parse()?,
                    other => bail!("unknown option {other}"),
                }
            }
            if let Some(gate) = &options.gate {
                testbed::until("the gate opens", std::time::Duration::MAX, || gate.exists())?;
            }
            runtime.block_on(ask::ask(options))
        }
        _ => bail!("streams serve | streams ask HOST:PORT"),
    }
}
