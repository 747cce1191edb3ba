//! Requests that are hard to count.

use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testbed::http::Message;

fn connect(target: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn read_answers(stream: &mut TcpStream, count: usize) -> Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let (mut response, mut answered) = (Message::response(false), 0);
    while answered < count {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "closed");
        let mut rest = &buffer[..length];
        while !rest.is_empty() && answered < count {
            let taken = response.feed(rest, |_| ());
            rest = &rest[taken..];
            if response.is_over() {
                answered += 1;
                response = Message::response(false);
            }
        }
    }
    Ok(())
}

/// All statuses of three digits that have a body, and a method for each turn.
pub fn statuses(target: SocketAddrV4, number: u64, asked: &AtomicU64) -> Result<()> {
    let mut stream = connect(target)?;
    for status in (200..1000).filter(|status| !matches!(status, 204 | 304)) {
        let method = format!("M{number}X{}", status % 7);
        let request = format!("{method} /?status={status}&size=10 HTTP/1.1\r\nHost: h{number}.test\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        asked.fetch_add(1, Ordering::Relaxed);
        read_answers(&mut stream, 1)?;
    }
    Ok(())
}

/// 64 in one write.
pub fn pipeline(target: SocketAddrV4, number: u64, asked: &AtomicU64) -> Result<()> {
    let mut stream = connect(target)?;
    for _ in 0..20 {
        let one = format!("GET /{number}?size=2000 HTTP/1.1\r\nHost: pipe.test\r\n\r\n");
        stream.write_all(one.repeat(64).as_bytes())?;
        asked.fetch_add(64, Ordering::Relaxed);
        read_answers(&mut stream, 64)?;
    }
    Ok(())
}

/// A segment for each byte.
pub fn tiny_segments(target: SocketAddrV4, number: u64, asked: &AtomicU64) -> Result<()> {
    let mut stream = connect(target)?;
    let request =
        format!("POST /{number} HTTP/1.1\r\nHost: tiny.test\r\nContent-Length: 100\r\n\r\n{}", "x".repeat(100));
    for byte in request.as_bytes() {
        stream.write_all(&[*byte])?;
    }
    asked.fetch_add(1, Ordering::Relaxed);
    read_answers(&mut stream, 1)
}
