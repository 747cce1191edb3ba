//! A page that is made while it is read: a piece waits until the one before is taken, so that a large
//! page is nowhere in one piece.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use std::convert::Infallible;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a page is, and whether it is compressed; it is another one for whoever says otherwise.
pub(super) fn describe(response: &mut Response<Body>, content_type: HeaderValue, vary: &'static str, gzip: bool) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(VARY, HeaderValue::from_static(vary));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

/// A piece of the page; the text encoder's are of this size, too.
const PIECE: usize = 32 << 10;
/// Pieces that are made ahead.
const AHEAD: usize = 4;
/// A scraper that has taken nothing for so long is given up. Prometheus waits for 10 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands pieces to the body.
struct Pieces {
    to: mpsc::Sender<Bytes>,
    collected: Vec<u8>,
}

impl Pieces {
    fn hand_over(&mut self) -> io::Result<()> {
        let mut piece = Bytes::from(std::mem::take(&mut self.collected));
        let until = Instant::now() + PATIENCE;
        // The sending half of tokio's channel has no blocking call with a deadline.
        loop {
            match self.to.try_send(piece) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(back)) if Instant::now() < until => {
                    piece = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.collected.extend_from_slice(bytes);
        if self.collected.len() >= PIECE {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Sink {
    Plain(Pieces),
    Gzip(GzEncoder<Pieces>),
}

/// The body of a page that `write` makes, on a thread of its own for as long as it takes.
pub(super) fn body(gzip: bool, write: impl FnOnce(&mut dyn FnMut(&[u8])) + Send + 'static) -> Body {
    let (to, pieces) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let pieces = Pieces { to, collected: Vec::with_capacity(PIECE) };
        let mut sink = match gzip {
            true => Sink::Gzip(GzEncoder::new(pieces, Compression::fast())),
            false => Sink::Plain(pieces),
        };
        let mut gone = false;
        write(&mut |piece| {
            // Who is gone is not written for; the walk goes on to its end.
            if !gone {
                gone = match &mut sink {
                    Sink::Plain(pieces) => pieces.write_all(piece).is_err(),
                    Sink::Gzip(encoder) => encoder.write_all(piece).is_err(),
                };
            }
        });
        if !gone {
            let rest = match sink {
                Sink::Plain(pieces) => Ok(pieces),
                Sink::Gzip(encoder) => encoder.finish(),
            };
            let _ = rest.and_then(|mut pieces| pieces.hand_over());
        }
    });
    let frames = stream::unfold(pieces, async |mut pieces: mpsc::Receiver<Bytes>| {
        Some((Ok(Frame::data(pieces.recv().await?)), pieces))
    });
    UnsyncBoxBody::new(StreamBody::new(frames))
}
