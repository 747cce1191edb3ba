//! Asks for calls and other requests in turn, `at_once` of each connection in flight.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use std::path::PathBuf;
use tokio::net::TcpStream;

/// What the client is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) target: String,
    /// It begins once this file is there.
    pub(crate) gate: Option<PathBuf>,
    pub(crate) connections: u64,
    /// Streams of a connection that are open at once.
    pub(crate) at_once: u64,
    /// Exchanges of all connections.
    pub(crate) count: u64,
    /// Bytes of an answer.
    pub(crate) size: usize,
}

/// Prints how many were sent, and of those answered as was asked for.
#[allow(clippy::print_stdout, reason = "the result is this program's output")]
pub(crate) async fn ask(options: Options) -> Result<()> {
    let Options { connections, count, .. } = options;
    let shares = (0..connections).map(|place| count / connections + u64::from(place < count % connections));
    let tasks: Vec<_> = shares.map(|share| tokio::spawn(connection(options.clone(), share))).collect();
    let (mut sent, mut answered) = (0, 0);
    for task in tasks {
        let (of_it, right) = task.await??;
        sent += of_it;
        answered += right;
    }
    println!("{{\"sent\": {sent}, \"answered\": {answered}}}");
    Ok(())
}

async fn connection(options: Options, share: u64) -> Result<(u64, u64)> {
    let stream = TcpStream::connect(&options.target).await?;
    stream.set_nodelay(true)?;
    let (client, driver) = h2::client::Builder::new().initial_connection_window_size(1 << 20).handshake(stream).await?;
    let driver = tokio::spawn(driver);
    let workers: Vec<_> = (0..options.at_once)
        .map(|place| {
            let share = share / options.at_once + u64::from(place < share % options.at_once);
            tokio::spawn(worker(client.clone(), share, place, options.size))
        })
        .collect();
    let mut answered = 0;
    for worker in workers {
        answered += worker.await??;
    }
    drop(client);
    driver.await??;
    Ok((share, answered))
}

async fn worker(client: SendRequest<Bytes>, share: u64, place: u64, size: usize) -> Result<u64> {
    for number in place..place + share {
        if number % 2 == 0 {
            let code = if number % 8 == 0 { 5 } else { 0 };
            let (head, trailers) = exchange(&client, &format!("/wants.Code/{code}?{size}"), true).await?;
            let said = trailers.get("grpc-status").or(head.get("grpc-status")).context("no grpc-status")?;
            ensure!(said.to_str()? == code.to_string(), "{said:?}");
        } else {
            exchange(&client, &format!("/status/{}?{size}", if number % 8 == 1 { 503 } else { 200 }), false).await?;
        }
    }
    Ok(share)
}

async fn exchange(client: &SendRequest<Bytes>, path: &str, is_call: bool) -> Result<(HeaderMap, HeaderMap)> {
    let mut client = client.clone().ready().await?;
    let request = Request::builder().uri(format!("http://shop:8080{path}"));
    let request = if is_call {
        request.method("POST").header("content-type", "application/grpc+proto").header("te", "trailers")
    } else {
        request.header("accept", "*/*")
    };
    let (response, mut body) = client.send_request(request.body(())?, !is_call)?;
    if is_call {
        body.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok((head.headers, body.trailers().await?.unwrap_or_default()))
}
