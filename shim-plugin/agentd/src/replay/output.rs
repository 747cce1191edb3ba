//! Lines that are printed while a capture is read. Written as they come, so that they need no memory
//! of their own: the end of one connection may tell of thousands of exchanges.

use parking_lot::Mutex;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

/// Written at once.
const SHARE: usize = 1 << 16;

/// Shared by those who write, which is one thread.
#[derive(Clone, Debug)]
pub(super) struct Output(Arc<Mutex<Inner>>);

struct Inner {
    text: Vec<u8>,
    out: Box<dyn Write + Send>,
    /// The first one. Nothing is written after it.
    error: Option<io::Error>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("text", &self.text.len()).field("error", &self.error).finish_non_exhaustive()
    }
}

impl Output {
    pub fn new(out: impl Write + Send + 'static) -> Output {
        Output(Arc::new(Mutex::new(Inner { text: Vec::with_capacity(SHARE), out: Box::new(out), error: None })))
    }

    /// Lets `write` add a line. What goes wrong with writing is told by `flush`.
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let inner = &mut *self.0.lock();
        write(&mut inner.text);
        if inner.text.len() >= SHARE {
            inner.write();
        }
    }

    /// Everything is out, or something went wrong.
    pub fn flush(&self) -> io::Result<()> {
        let inner = &mut *self.0.lock();
        inner.write();
        match inner.error.take() {
            Some(error) => Err(error),
            None => inner.out.flush(),
        }
    }
}

impl Inner {
    fn write(&mut self) {
        if self.error.is_none() {
            self.error = self.out.write_all(&self.text).err();
        }
        self.text.clear();
    }
}
