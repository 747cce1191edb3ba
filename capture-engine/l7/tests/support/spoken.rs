//! Conversations of HTTP/2 and gRPC between a real client and a real server (the `h2` crate), in memory:
//! what each of them wrote, in its order, and what it meant.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::packets::Dice;
use super::support::{CLIENT, SERVER};
use bytes::Bytes;
use flow_model::Direction;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// What an exchange is, and how it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub number: usize,
    pub grpc: bool,
    pub method: &'static str,
    pub request: usize,
    pub response: usize,
    pub status: u16,
    pub code: u16,
    /// An answer of fields alone.
    pub bare: bool,
}

impl Exchange {
    fn new(number: usize, dice: &mut Dice) -> Exchange {
        let size = |dice: &mut Dice| match dice.below(8) {
            0 => 0,
            1 => 2000 + dice.below(40_000),
            _ => dice.below(300),
        };
        let grpc = dice.one_in(2);
        Exchange {
            number,
            grpc,
            method: if grpc { "POST" } else { ["GET", "POST", "PUT", "DELETE"][dice.below(4)] },
            request: size(dice),
            response: size(dice),
            status: if grpc { 200 } else { [200, 204, 404, 418, 503, 599][dice.below(6)] },
            code: dice.below(17) as u16,
            bare: dice.one_in(4),
        }
    }

    pub fn path(&self) -> String {
        if self.grpc { format!("/shop.Cart/Call{}", self.number) } else { format!("/items/{}?q=secret", self.number) }
    }

    /// As `support::line` of a record has it, without times.
    pub fn fact(&self) -> String {
        if self.grpc {
            format!("shop.Cart/Call{} {}", self.number, CODES[usize::from(self.code)])
        } else {
            format!("{} {} {}", self.method, self.path(), self.status)
        }
    }
}

pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[derive(Debug)]
pub struct Conversation {
    /// What was written, in its order.
    pub writes: Vec<(Direction, Vec<u8>)>,
    pub exchanges: Vec<Exchange>,
}

impl Conversation {
    pub fn facts(&self) -> Vec<String> {
        let mut facts: Vec<String> = self.exchanges.iter().map(Exchange::fact).collect();
        facts.sort();
        facts
    }
}

type Log = Arc<Mutex<Vec<(Direction, Vec<u8>)>>>;

/// An end of the connection that writes down what it writes.
struct End {
    stream: DuplexStream,
    dir: Direction,
    log: Log,
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = written {
            self.log.lock().unwrap().push((self.dir, buf[..length].to_vec()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// `count` exchanges, `at_once` of them in flight.
pub fn converse(seed: u64, count: usize, at_once: usize) -> Conversation {
    let mut dice = Dice(seed);
    let exchanges: Vec<Exchange> = (0..count).map(|number| Exchange::new(number, &mut dice)).collect();
    let table = [0, 128, 4096, 16 << 10][dice.below(4)];
    let log = Log::default();
    let (client, server) = tokio::io::duplex(256 << 10);
    let client = End { stream: client, dir: CLIENT, log: Arc::clone(&log) };
    let server = End { stream: server, dir: SERVER, log: Arc::clone(&log) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let serving = tokio::spawn(serve(server, exchanges.clone()));
        ask(client, exchanges.clone(), at_once, table).await;
        serving.await.unwrap();
    });
    drop(runtime);
    let writes = std::mem::take(&mut *log.lock().unwrap());
    Conversation { writes, exchanges }
}

async fn ask(end: End, exchanges: Vec<Exchange>, at_once: usize, table: u32) {
    let (client, connection) = h2::client::Builder::new()
        .header_table_size(table)
        .initial_connection_window_size(16 << 20)
        .handshake::<_, Bytes>(end)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    for batch in exchanges.chunks(at_once) {
        let mut asked = Vec::new();
        for exchange in batch {
            let mut request = Request::builder()
                .method(exchange.method)
                .uri(format!("http://api.shop:8080{}", exchange.path()))
                .header("authorization", "Bearer secret")
                .header("x-request", exchange.number.to_string());
            if exchange.grpc {
                request = request.header("content-type", "application/grpc+proto").header("te", "trailers");
            }
            let mut client = client.clone().ready().await.unwrap();
            let request = request.body(()).unwrap();
            let (response, mut body) = client.send_request(request, exchange.request == 0).unwrap();
            if exchange.request > 0 {
                body.send_data(vec![b'q'; exchange.request].into(), true).unwrap();
            }
            asked.push(response);
        }
        // Side by side: what one does not read holds up the others.
        let read = asked.into_iter().map(|response| tokio::spawn(read(response)));
        for read in read.collect::<Vec<_>>() {
            read.await.unwrap();
        }
    }
    drop(client);
    connection.await.unwrap().unwrap();
}

async fn read(response: h2::client::ResponseFuture) {
    let mut body = response.await.unwrap().into_body();
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    body.trailers().await.unwrap();
}

async fn serve(end: End, exchanges: Vec<Exchange>) {
    let mut connection = h2::server::handshake(end).await.unwrap();
    while let Some(asked) = connection.accept().await {
        let (request, mut respond) = asked.unwrap();
        let number: usize = request.headers()["x-request"].to_str().unwrap().parse().unwrap();
        let exchange = exchanges[number];
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let length = data.unwrap().len();
                body.flow_control().release_capacity(length).unwrap();
            }
            let mut response = Response::builder().status(exchange.status).header("set-cookie", "secret");
            if exchange.grpc {
                response = response.header("content-type", "application/grpc");
                if exchange.bare {
                    response = response.header("grpc-status", exchange.code).header("grpc-message", "secret");
                }
            }
            let bare = exchange.bare || !exchange.grpc && exchange.response == 0;
            let mut body = respond.send_response(response.body(()).unwrap(), bare).unwrap();
            if bare {
                return;
            }
            let data = vec![b'a'; exchange.response];
            body.send_data(data.into(), !exchange.grpc).unwrap();
            if exchange.grpc {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from(exchange.code));
                trailers.insert("grpc-message", HeaderValue::from_static("secret"));
                body.send_trailers(trailers).unwrap();
            }
        });
    }
}
