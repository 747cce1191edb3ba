//! Where pages lie while they are read. The shelf owns them, their readers do not: each comes back
//! for the next piece. So the memory of all readers together is the shelf's to bound, and a reader
//! who takes a byte a second finds its page gone when there is no room for it any longer.

use super::packed::{Form, Packed, Position};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Pages may take this much however small they are: some hundred of a node with few pods.
const LEAST: usize = 1 << 20;
/// How long a page stays without a reader: for who comes within the same second.
pub const SHARED: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Lying {
    page: Packed,
    since: Instant,
    readers: AtomicUsize,
}

#[derive(Debug, Default)]
pub struct Shelf {
    /// The oldest first.
    pages: Mutex<VecDeque<Arc<Lying>>>,
    /// Of pieces that are on their way to a socket.
    in_pieces: Arc<AtomicUsize>,
    /// Answers whose page was gone before they were read to the end.
    pub gone: AtomicU64,
}

/// A page on the shelf, as long as it lies there.
#[derive(Clone, Debug, Default)]
pub struct Ticket(Weak<Lying>);

impl Ticket {
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Shelf {
    /// Takes a page in. The oldest ones make room: all together take no more than the largest of
    /// them takes when it is unpacked.
    pub fn put(&self, page: Packed, now: Instant) -> Ticket {
        let mut pages = self.pages.lock();
        pages.retain(|lying| lying.readers.load(Relaxed) > 0 || now.saturating_duration_since(lying.since) < SHARED);
        let lying = Arc::new(Lying { page, since: now, readers: AtomicUsize::new(0) });
        let ticket = Ticket(Arc::downgrade(&lying));
        pages.push_back(lying);
        let largest =
            pages.iter().map(|lying| usize::try_from(lying.page.len(Form::Plain)).unwrap_or(usize::MAX)).max();
        let most = largest.unwrap_or(0).max(LEAST);
        while pages.len() > 1 && bytes(&pages) > most {
            pages.pop_front();
        }
        ticket
    }

    /// Somebody who reads the page; None when it is gone.
    pub fn reader(self: &Arc<Shelf>, ticket: &Ticket, form: Form) -> Option<Reader> {
        let lying = ticket.0.upgrade()?;
        lying.readers.fetch_add(1, Relaxed);
        let left = lying.page.len(form);
        Some(Reader { shelf: self.clone(), page: ticket.clone(), position: Position::new(form), left })
    }

    /// Bytes that all pages and all readers hold now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes(&self.pages.lock()) + self.in_pieces.load(Relaxed)
    }
}

fn bytes(pages: &VecDeque<Arc<Lying>>) -> usize {
    pages.iter().map(|lying| lying.page.bytes()).sum()
}

/// The body of an answer.
#[derive(Debug)]
pub struct Reader {
    shelf: Arc<Shelf>,
    page: Ticket,
    position: Position,
    left: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(lying) = self.page.0.upgrade() {
            lying.readers.fetch_sub(1, Relaxed);
        }
    }
}

/// A piece that is counted until it is sent.
struct Piece {
    bytes: Vec<u8>,
    all: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.capacity(), Relaxed);
    }
}

/// The reader was too slow: newer pages needed the room.
#[derive(Debug, thiserror::Error)]
#[error("the page is gone")]
pub struct Gone;

impl Body for Reader {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        let Reader { shelf, page, position, left } = self.get_mut();
        if *left == 0 {
            return Poll::Ready(None);
        }
        let piece = page.0.upgrade().and_then(|lying| position.next(&lying.page)).filter(|piece| !piece.is_empty());
        let Some(bytes) = piece else {
            *left = 0;
            shelf.gone.fetch_add(1, Relaxed);
            return Poll::Ready(Some(Err(Gone)));
        };
        *left = left.saturating_sub(bytes.len() as u64);
        shelf.in_pieces.fetch_add(bytes.capacity(), Relaxed);
        let piece = Piece { bytes, all: shelf.in_pieces.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::super::packed::Packer;
    use super::*;
    use std::io::Write;
    use std::task::Waker;

    /// Bytes that do not compress, so that few pages fill the shelf.
    fn page(len: usize) -> Packed {
        let mut packer = Packer::default();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..len / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            packer.write_all(&state.to_le_bytes()).expect("memory");
        }
        packer.finish().expect("memory")
    }

    fn next(reader: &mut Reader) -> Option<Result<usize, Gone>> {
        let polled = Pin::new(reader).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(frame) = polled else { panic!("never waits") };
        frame.map(|frame| frame.map(|frame| frame.into_data().map_or(0, |data| data.len())))
    }

    #[test]
    fn readers_own_no_page_and_the_oldest_make_room() {
        let (shelf, now) = (Arc::new(Shelf::default()), Instant::now());
        let mut readers = Vec::new();
        for _ in 0..20 {
            let ticket = shelf.put(page(4 << 20), now);
            let mut reader = shelf.reader(&ticket, Form::Gzip).expect("new");
            assert!(matches!(next(&mut reader), Some(Ok(_))));
            readers.push(reader);
            assert!(shelf.bytes() < 5 << 20, "{} bytes", shelf.bytes());
        }
        assert!(readers.iter_mut().take(18).all(|reader| matches!(next(reader), Some(Err(Gone)))));
        assert_eq!(shelf.gone.load(Relaxed), 18);
        let mut newest = readers.pop().expect("twenty");
        let mut rest = 0;
        while let Some(piece) = next(&mut newest) {
            rest += piece.expect("the newest page stays");
        }
        assert!(rest > (4 << 20) - (64 << 10), "{rest}");
    }

    #[test]
    fn a_page_stays_for_its_readers_and_for_a_second() {
        let (shelf, now) = (Arc::new(Shelf::default()), Instant::now());
        let (read, unread) = (shelf.put(page(1000), now), shelf.put(page(1000), now));
        let reader = shelf.reader(&read, Form::Plain).expect("new");
        shelf.put(page(1000), now + SHARED / 2);
        assert!(read.is_valid() && unread.is_valid());
        shelf.put(page(1000), now + SHARED);
        assert!(read.is_valid() && !unread.is_valid());
        drop(reader);
        shelf.put(page(1000), now + SHARED);
        assert!(!read.is_valid());
    }

    #[test]
    fn a_piece_is_counted_until_it_is_sent() {
        let (shelf, now) = (Arc::new(Shelf::default()), Instant::now());
        let ticket = shelf.put(page(100_000), now);
        let lying = shelf.bytes();
        let mut reader = shelf.reader(&ticket, Form::Plain).expect("new");
        let frame = Pin::new(&mut reader).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(shelf.bytes() > lying);
        drop(frame);
        assert_eq!(shelf.bytes(), lying);
    }
}
