//! Numbers and words as bytes: numbers as LEB128, words that repeat as their place in the order of
//! first use, and a CRC-32 of everything.

use crate::cluster::snapshot::SnapshotError;
use hashbrown::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// CRC-32 as of ISO 3309, which gzip and Ethernet have, too (RFC 1952 section 8): reflected, polynomial 0xEDB88320.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

fn crc(mut crc: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        crc = crc >> 8 ^ CRC[usize::from(crc as u8 ^ byte)];
    }
    crc
}

#[derive(Debug)]
pub(super) struct Out<W> {
    out: W,
    buffer: Vec<u8>,
    crc: u32,
    words: HashMap<Arc<str>, u64>,
}

const BUFFER: usize = 64 << 10;

impl<W: Write> Out<W> {
    pub(super) fn new(out: W) -> Out<W> {
        Out { out, buffer: Vec::with_capacity(BUFFER), crc: u32::MAX, words: HashMap::new() }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crc = crc(self.crc, &self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    pub(super) fn number(&mut self, number: impl Into<u64>) -> io::Result<()> {
        let mut number = number.into();
        while number >= 0x80 {
            self.bytes(&[number as u8 | 0x80])?;
            number >>= 7;
        }
        self.bytes(&[number as u8])
    }

    pub(super) fn len<T>(&mut self, items: &[T]) -> io::Result<()> {
        self.number(items.len() as u64)
    }

    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.len(text.as_bytes())?;
        self.bytes(text.as_bytes())
    }

    /// One of those that many objects share.
    pub(super) fn word(&mut self, word: &Arc<str>) -> io::Result<()> {
        if let Some(place) = self.words.get(word) {
            return self.number(*place);
        }
        self.words.insert(word.clone(), self.words.len() as u64 + 1);
        self.number(0_u64)?;
        self.text(word)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(&(!self.crc).to_le_bytes())?;
        self.out.flush()
    }
}

#[derive(Debug)]
pub(super) struct In<R> {
    from: R,
    buffer: Box<[u8]>,
    /// What of the buffer is read and not yet taken.
    left: std::ops::Range<usize>,
    crc: u32,
    words: Vec<Arc<str>>,
}

/// More than these are no cluster's.
const MOST_WORDS: usize = 1_000_000;

impl<R: Read> In<R> {
    pub(super) fn new(from: R) -> In<R> {
        In { from, buffer: vec![0; BUFFER].into(), left: 0..0, crc: u32::MAX, words: Vec::new() }
    }

    fn byte(&mut self) -> Result<u8, SnapshotError> {
        if self.left.is_empty() {
            self.fill()?;
        }
        let byte = self.buffer.get(self.left.start).copied().ok_or(SnapshotError::Damaged("it is cut off"))?;
        self.left.start += 1;
        Ok(byte)
    }

    fn fill(&mut self) -> Result<(), SnapshotError> {
        loop {
            match self.from.read(&mut self.buffer) {
                Ok(0) => return Err(SnapshotError::Damaged("it is cut off")),
                Ok(read) => {
                    self.left = 0..read.min(self.buffer.len());
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SnapshotError::Io(error)),
            }
        }
    }

    /// Outside the checksum.
    fn plain<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let bytes = self.plain()?;
        self.crc = crc(self.crc, &bytes);
        Ok(bytes)
    }

    pub(super) fn number(&mut self) -> Result<u64, SnapshotError> {
        let mut number = 0_u64;
        for shift in (0..63).step_by(7) {
            let [byte] = self.bytes()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(SnapshotError::Damaged("a number is too long"))
    }

    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, SnapshotError> {
        self.number()?.try_into().map_err(|_| SnapshotError::Damaged("a number is too large"))
    }

    pub(super) fn len(&mut self, most: usize) -> Result<usize, SnapshotError> {
        match self.small::<usize>()? {
            len if len <= most => Ok(len),
            _ => Err(SnapshotError::Damaged("a list is too long")),
        }
    }

    pub(super) fn list<T>(
        &mut self,
        most: usize,
        mut read: impl FnMut(&mut In<R>) -> Result<T, SnapshotError>,
    ) -> Result<Vec<T>, SnapshotError> {
        let len = self.len(most)?;
        // The bytes have to be there before there is room for what they say.
        let mut list = Vec::new();
        for _ in 0..len {
            list.push(read(self)?);
        }
        Ok(list)
    }

    pub(super) fn text(&mut self) -> Result<String, SnapshotError> {
        let bytes = self.list(1_024, |from| from.bytes::<1>().map(|[byte]| byte))?;
        String::from_utf8(bytes).map_err(|_| SnapshotError::Damaged("a name is not UTF-8"))
    }

    pub(super) fn word(&mut self) -> Result<Arc<str>, SnapshotError> {
        let place = self.small::<usize>()?;
        let Some(place) = place.checked_sub(1) else {
            if self.words.len() >= MOST_WORDS {
                return Err(SnapshotError::Damaged("it has too many words"));
            }
            let word: Arc<str> = self.text()?.into();
            self.words.push(word.clone());
            return Ok(word);
        };
        self.words.get(place).cloned().ok_or(SnapshotError::Damaged("it repeats a word that it does not have"))
    }

    /// The end, and what came before it is as it was written.
    pub(super) fn finish(mut self) -> Result<(), SnapshotError> {
        let is_whole = u32::from_le_bytes(self.plain()?) == !self.crc;
        match is_whole {
            true => Ok(()),
            false => Err(SnapshotError::Damaged("its checksum is wrong")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_that_others_compute() {
        assert_eq!(!crc(u32::MAX, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut file = Vec::new();
        let mut out = Out::new(&mut file);
        let numbers = [0, 127, 128, 70_000, u64::from(u32::MAX), u64::MAX >> 1];
        for number in numbers {
            out.number(number).unwrap();
        }
        for word in ["shop", "web", "shop"] {
            out.word(&word.into()).unwrap();
        }
        out.finish().unwrap();
        let mut from = In::new(&file[..]);
        assert!(numbers.iter().all(|number| from.number().unwrap() == *number));
        let words: Vec<_> = (0..3).map(|_| from.word().unwrap().to_string()).collect();
        assert_eq!(words, ["shop", "web", "shop"]);
        from.finish().unwrap();
    }
}
