use std::io::{self, Read};

/// Read at once; large enough that the cost of a system call vanishes in that of the packets in it, and
/// small enough that these are still in the cache when they are looked at.
const CHUNK: usize = 1 << 17;

/// A sliding view of a stream: look at bytes before taking them, without a copy per packet.
pub(super) struct Window<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    ended: bool,
}

impl<R: Read> Window<R> {
    pub fn new(inner: R) -> Self {
        Window { inner, buffer: vec![0; CHUNK], start: 0, end: 0, offset: 0, ended: false }
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that can be looked at, at least `wanted` unless the stream ends before. The buffer
    /// grows to hold them, so callers bound `wanted`.
    pub fn fill(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.end - self.start < wanted {
            self.refill(wanted)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// What is there without reading.
    pub fn held(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub fn take(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    fn refill(&mut self, wanted: usize) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted.next_multiple_of(CHUNK), 0);
        }
        while self.end < wanted && !self.ended {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // A broken stream ends here; what came before it is still good.
                    self.ended = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
