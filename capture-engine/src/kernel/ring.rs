//! Reading the ring. The kernel wakes nobody on its own: a wakeup costs more than a packet (3.5 us
//! against 0.25). The reader looks every 5 ms while there is traffic and is woken only when the
//! ring is half full; when there was none for 100 ms it asks to be woken by the next event and
//! sleeps, so that an idle agent costs nothing.

use super::convert;
use super::maps::Shared;
use crate::event::{Event, Sample};
use aya::maps::{MapData, RingBuf};
use capture_wire as wire;
use capture_wire::{READER_ASLEEP, READER_AWAKE, READER_NAPPING};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// Between two looks while events come: 8 MiB hold 5 ms of 4 million small events a second, or of
/// 400 thousand full ones.
const NAP: Duration = Duration::from_millis(5);
/// Without an event for this long, sleep until woken.
const IDLE_AFTER: Duration = Duration::from_millis(100);

/// What the kernel puts before each record (`BPF_RINGBUF_HDR_SZ`), and what records begin at a multiple of.
const RECORD_HEAD: usize = 8;
/// A ring is no smaller than the largest page.
const LARGEST_PAGE: usize = 64 << 10;

/// The only reader of the ring.
pub struct RingReader {
    ring: RingBuf<MapData>,
    ring_bytes: usize,
    /// Bytes of records that were handed over, and more: see `read`.
    read: u64,
    /// Ends that were put aside, as they were counted when all were taken last.
    aside: u32,
    epoll: Epoll,
    shared: Arc<Shared>,
    last_event: Instant,
    drained_any: bool,
}

/// What was in the ring at one moment, as far as it may still be there. A ring that is refilled as
/// fast as it is read never becomes empty: after as many bytes as it can hold all of it has come.
#[derive(Debug)]
pub struct Present {
    bytes: usize,
}

impl Present {
    /// Whether all of it has been handed over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.bytes == 0
    }

    fn took(&mut self, record: usize) {
        self.bytes = self.bytes.saturating_sub(room_of(record));
    }

    fn none_is_left(&mut self) {
        self.bytes = 0;
    }
}

/// What a record of so many bytes takes of the ring.
fn room_of(record: usize) -> usize {
    (RECORD_HEAD + record).next_multiple_of(RECORD_HEAD)
}

impl fmt::Debug for RingReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingReader").field("last_event", &self.last_event).finish_non_exhaustive()
    }
}

impl RingReader {
    pub(super) fn new(ring: RingBuf<MapData>, ring_bytes: u32, shared: Arc<Shared>) -> io::Result<RingReader> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // Edge-triggered: unread data must not end a nap, only a wakeup that the kernel programs meant.
        epoll.add(ring.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
        let ring_bytes = (ring_bytes as usize).max(LARGEST_PAGE);
        Ok(RingReader {
            ring,
            ring_bytes,
            read: 0,
            aside: 0,
            epoll,
            shared,
            last_event: Instant::now(),
            drained_any: true,
        })
    }

    /// Hands up to `max_events` events to `each`, in the ring's memory and in the order in which
    /// they were put there; two directions of one flow that are handled on two CPUs at the same
    /// time may be in either order. Returns how many there were; fewer than `max_events` means that
    /// the ring is empty. Records that make no sense are counted in
    /// [`super::KernelStats::malformed`].
    pub fn drain(&mut self, max_events: usize, each: &mut impl FnMut(Event<'_>)) -> usize {
        self.hand_over(max_events, None, each)
    }

    /// What is in the ring now, to be handed over before something else is believed.
    #[must_use]
    pub fn present(&self) -> Present {
        Present { bytes: self.ring_bytes }
    }

    /// As `drain`, until all that `present` stands for is handed over. With fewer than `max_events`
    /// it is; with as many [`Present::is_over`] tells.
    pub fn drain_present(
        &mut self,
        present: &mut Present,
        max_events: usize,
        each: &mut impl FnMut(Event<'_>),
    ) -> usize {
        self.hand_over(max_events, Some(present), each)
    }

    /// How far the ring has been read. What is in it now has been handed over when this is where
    /// [`written`](Self::written) is now. It grows with each record, and where none is left: but a
    /// record that is being written hides those behind it, so it takes two looks to believe that.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// How far it may have been filled by now.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.read + self.ring_bytes as u64
    }

    /// Hands up to `most` ends to `each` that the ring refused and that nothing else tells of. Returns whether none was
    /// left. All that the ring has of their flows was in it by then ([`written`](Self::written)), and is to be handed
    /// over before them. Of a connection that had a flow's place after it nothing is handed over before its end lies
    /// here.
    ///
    /// # Errors
    /// When the kernel refuses to give one out.
    pub fn take_aside(&mut self, most: usize, each: &mut impl FnMut(Sample)) -> io::Result<bool> {
        let put = self.shared.control.aside().load(Ordering::Acquire);
        if put == self.aside {
            return Ok(true);
        }
        let mut end = [0; size_of::<wire::Closed>()];
        for _ in 0..most {
            if !self.shared.aside.pop(&mut end)? {
                self.aside = put;
                return Ok(true);
            }
            match convert::end(&end) {
                Ok(sample) => each(sample),
                Err(convert::Malformed) => {
                    self.shared.malformed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(false)
    }

    fn hand_over(
        &mut self,
        max_events: usize,
        mut present: Option<&mut Present>,
        each: &mut impl FnMut(Event<'_>),
    ) -> usize {
        let mut events = 0;
        while events < max_events && present.as_ref().is_none_or(|present| !present.is_over()) {
            let Some(record) = self.ring.next() else {
                self.read += self.ring_bytes as u64 / 2;
                if let Some(present) = &mut present {
                    present.none_is_left();
                }
                break;
            };
            self.read += room_of(record.len()) as u64;
            if let Some(present) = &mut present {
                present.took(record.len());
            }
            events += usize::from(hand_over(&record, &self.shared, each));
        }
        self.drained_any |= events > 0;
        events
    }

    /// Returns when there may be something to drain, or after `longest`. Call it after `drain` emptied the ring.
    ///
    /// # Errors
    /// When `epoll_wait(2)` fails; an interruption by a signal is no error.
    pub fn wait(&mut self, longest: Duration) -> io::Result<()> {
        let now = Instant::now();
        if std::mem::take(&mut self.drained_any) {
            self.last_event = now;
        }
        let shared = Arc::clone(&self.shared);
        let reader = shared.control.reader();
        let idle = now.duration_since(self.last_event) >= IDLE_AFTER;
        reader.store(if idle { READER_ASLEEP } else { READER_NAPPING }, Ordering::SeqCst);
        // Pairs with the commit in the kernel's `pf_output`: either it sees the flag, or we see the record.
        fence(Ordering::SeqCst);
        if idle && !self.is_empty() {
            reader.store(READER_AWAKE, Ordering::SeqCst);
            return Ok(());
        }
        let timeout = if idle { longest } else { NAP.min(longest) };
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::MAX);
        let woken = self.epoll.wait(&mut [EpollEvent::empty()], timeout);
        reader.store(READER_AWAKE, Ordering::SeqCst);
        match woken {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn is_empty(&mut self) -> bool {
        match self.ring.next() {
            // Dropping a record gives its room back to the kernel; forgotten, it is the next one again.
            Some(record) => {
                std::mem::forget(record);
                false
            }
            None => true,
        }
    }
}

/// Whether the record was an event.
fn hand_over(record: &[u8], shared: &Shared, each: &mut impl FnMut(Event<'_>)) -> bool {
    match convert::event(record) {
        Ok(Some(event)) => {
            each(event);
            true
        }
        Ok(None) => false,
        Err(convert::Malformed) => {
            shared.malformed.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_has_come_after_a_ring_s_worth_of_it_or_when_nothing_is_left() {
        let mut present = Present { bytes: 4096 };
        // 9 bytes and their head take three words.
        (0..170).for_each(|_| present.took(9));
        assert!(!present.is_over(), "{present:?}");
        present.took(9);
        assert!(present.is_over());
        let mut present = Present { bytes: 4096 };
        present.took(4000);
        assert!(!present.is_over());
        present.none_is_left();
        assert!(present.is_over());
    }
}
