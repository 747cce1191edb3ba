//! A client that ends right after its last word, and a server that reads slowly: most of what was said
//! is in the client's socket when the client is gone. It speaks Kafka without confirmations, so that
//! nobody waits for an answer.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

const PORT: u16 = 9092;
/// What the server's kernel takes at once, at most, and its pause after each piece of that.
const WINDOW: usize = 4096;
const PAUSE: Duration = Duration::from_millis(2);
/// Room for all that the client says.
const ROOM: usize = 1 << 20;
/// Between the first answer and the rest: what is spoken has shown by then.
const SHOWN: Duration = Duration::from_millis(700);
/// The server may not have begun to listen, or the network may still be to come.
const AGAIN: Duration = Duration::from_millis(100);
/// Of the records in each message.
const RECORDS: usize = 400;

/// `leaves serve GATE`, or `leaves say SERVER COUNT GATE`. A server reads on, and a client begins, when
/// the file GATE exists.
fn main() -> Result<()> {
    let all: Vec<String> = std::env::args().skip(1).collect();
    match all.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", gate] => serve(Path::new(gate)),
        ["say", server, count, gate] => say(server.parse().context("SERVER")?, count.parse()?, Path::new(gate)),
        _ => bail!("leaves serve GATE | leaves say SERVER COUNT GATE"),
    }
}

#[allow(clippy::print_stdout, reason = "whoever started it reads that")]
fn tell(what: &str, count: usize) {
    println!("{}", serde_json::json!({ what: count }));
}

fn wait(gate: &Path) {
    testbed::until("the gate opens", Duration::MAX, || gate.exists()).ok();
}

fn say(server: std::net::IpAddr, count: usize, gate: &Path) -> Result<()> {
    wait(gate);
    let server = SocketAddr::from((server, PORT));
    let mut stream = loop {
        match TcpStream::connect(server) {
            Ok(stream) => break stream,
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied) => return Err(error.into()),
            Err(_) => thread::sleep(AGAIN),
        }
    };
    setsockopt(&stream, sockopt::SndBufForce, &ROOM).or_else(|_| setsockopt(&stream, sockopt::SndBuf, &ROOM))?;
    stream.write_all(&request(18, 0, 1, &[]))?;
    read_frame(&mut stream)?.context("no answer")?;
    thread::sleep(SHOWN);
    // All at once: a process that waits for room in its socket leaves less behind.
    let messages: Vec<u8> = (0..count).flat_map(|number| produce(number as i32 + 2)).collect();
    stream.set_nonblocking(true)?;
    ensure!(stream.write(&messages)? == messages.len(), "they do not fit");
    tell("sent", count + 1);
    Ok(())
}

fn serve(gate: &Path) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    setsockopt(&listener, sockopt::RcvBuf, &WINDOW)?;
    let (mut stream, _) = listener.accept()?;
    read_frame(&mut stream)?.context("no question")?;
    // Version 0: no error, and one kind of request with its versions.
    stream.write_all(&frame(&[&1_i32.to_be_bytes(), &[0, 0], &1_i32.to_be_bytes(), &[0, 0, 0, 0, 0, 9]]))?;
    wait(gate);
    let mut read = 1;
    while read_frame(&mut stream)?.is_some() {
        read += 1;
        thread::sleep(PAUSE);
    }
    tell("read", read);
    Ok(())
}

/// A frame without its length; none at the end of the stream.
fn read_frame(stream: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut body = vec![0; u32::from_be_bytes(length).min(1 << 20) as usize];
    stream.read_exact(&mut body)?;
    Ok(Some(body))
}

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn request(key: i16, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    frame(&[&key.to_be_bytes(), &version.to_be_bytes(), &id.to_be_bytes(), &text("leaves"), body])
}

/// Produce of version 7 with `acks` 0: no transaction, one topic with one partition.
fn produce(id: i32) -> Vec<u8> {
    let numbers = [1_i32, 0, RECORDS as i32].map(i32::to_be_bytes).concat();
    let head = [&[0xff, 0xff][..], &0_i16.to_be_bytes(), &3000_i32.to_be_bytes(), &1_i32.to_be_bytes()].concat();
    request(0, 7, id, &[head, text("words"), numbers, vec![b'w'; RECORDS]].concat())
}
