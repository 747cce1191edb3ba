//! A page as it is kept for its readers: compressed once, and unpacked in pieces for who wants it so.

use flate2::write::GzEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use std::io::{self, Write};

/// What a reader is handed at a time.
pub const PIECE: usize = 32 << 10;
/// RFC 1952: what stands before the compressed bytes, without name and comment. We write none.
const HEAD: usize = 10;

/// A finished page.
#[derive(Debug, Default)]
pub struct Packed {
    gzip: Vec<u8>,
    len: u64,
}

impl Packed {
    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.gzip.capacity()
    }

    /// Bytes that somebody reads: compressed, or as it was made.
    #[must_use]
    pub fn len(&self, form: Form) -> u64 {
        match form {
            Form::Gzip => self.gzip.len() as u64,
            Form::Plain => self.len,
        }
    }
}

/// A page in the making. Holds what is compressed of it and no more.
#[derive(Debug)]
pub struct Packer {
    gzip: GzEncoder<Vec<u8>>,
    len: u64,
}

impl Default for Packer {
    /// The fastest level: names repeat so much in a page that a better one gains little.
    fn default() -> Packer {
        Packer { gzip: GzEncoder::new(Vec::new(), Compression::fast()), len: 0 }
    }
}

impl Packer {
    /// # Errors
    /// Never: it is written to memory.
    pub fn finish(self) -> io::Result<Packed> {
        let mut gzip = self.gzip.finish()?;
        gzip.shrink_to_fit();
        Ok(Packed { gzip, len: self.len })
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gzip.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In which form a page is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Gzip,
}

impl Form {
    /// What an `Accept-Encoding` header asks for (RFC 9110 section 12.5.3). Plain where it refuses
    /// both: what cannot be unpacked is worse than what was not asked for.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Form {
        let (mut gzip, mut any) = (None, None);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let q = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim() == "q");
            let wanted = q.is_none_or(|(_, q)| q.trim().parse::<f32>().is_ok_and(|q| q > 0.0));
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                gzip = Some(wanted);
            } else if coding == "*" {
                any = Some(wanted);
            }
        }
        if gzip.or(any).unwrap_or(false) { Form::Gzip } else { Form::Plain }
    }
}

/// How far one reader is. Knows no page: it is shown the page for each piece.
#[derive(Debug)]
pub struct Position {
    at: usize,
    unpack: Option<Box<Decompress>>,
}

impl Position {
    #[must_use]
    pub fn new(form: Form) -> Position {
        match form {
            Form::Gzip => Position { at: 0, unpack: None },
            Form::Plain => Position { at: HEAD, unpack: Some(Box::new(Decompress::new(false))) },
        }
    }

    /// The next piece, empty at the end. None when the page makes no sense.
    pub fn next(&mut self, page: &Packed) -> Option<Vec<u8>> {
        let rest = page.gzip.get(self.at..)?;
        let Some(unpack) = &mut self.unpack else {
            let piece = rest.get(..rest.len().min(PIECE))?.to_vec();
            self.at += piece.len();
            return Some(piece);
        };
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            let (taken, made) = (unpack.total_in(), unpack.total_out());
            let rest = page.gzip.get(self.at..)?;
            let status = unpack.decompress_vec(rest, &mut piece, FlushDecompress::None).ok()?;
            self.at += usize::try_from(unpack.total_in() - taken).ok()?;
            let is_stuck = unpack.total_in() == taken && unpack.total_out() == made;
            match status {
                Status::StreamEnd => return Some(piece),
                _ if piece.len() == piece.capacity() => return Some(piece),
                _ if is_stuck => return None,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    fn packed(pieces: &[Vec<u8>]) -> Packed {
        let mut packer = Packer::default();
        pieces.iter().for_each(|piece| packer.write_all(piece).expect("memory"));
        packer.finish().expect("memory")
    }

    fn read(page: &Packed, form: Form) -> Vec<u8> {
        let (mut position, mut all) = (Position::new(form), Vec::new());
        loop {
            let piece = position.next(page).expect("a whole page");
            assert!(piece.len() <= PIECE);
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    fn unpacked(gzip: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut plain).expect("gzip");
        plain
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read_in_both_forms(pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..3 * PIECE),
                (any::<u8>(), 0..3 * PIECE).prop_map(|(byte, len)| vec![byte; len]),
            ], 0..5))
        {
            let (page, plain) = (packed(&pieces), pieces.concat());
            prop_assert_eq!(page.len(Form::Plain), plain.len() as u64);
            prop_assert!(read(&page, Form::Plain) == plain);
            let gzip = read(&page, Form::Gzip);
            prop_assert_eq!(page.len(Form::Gzip), gzip.len() as u64);
            prop_assert!(unpacked(&gzip) == plain);
        }
    }

    #[test]
    fn a_page_that_is_cut_makes_no_sense_and_ends() {
        let mut page = packed(&[(0..100_000_u32).flat_map(u32::to_le_bytes).collect()]);
        page.gzip.truncate(page.gzip.len() / 2);
        let mut position = Position::new(Form::Plain);
        while let Some(piece) = position.next(&page) {
            assert!(!piece.is_empty(), "half a page is no page");
        }
    }

    #[test]
    fn gzip_is_for_who_asks_for_it() {
        let check = |accept, form| assert_eq!(Form::negotiate(accept), form, "{accept:?}");
        check(None, Form::Plain);
        check(Some(""), Form::Plain);
        check(Some("gzip"), Form::Gzip);
        check(Some("GZip;q=0.5, deflate"), Form::Gzip);
        check(Some("deflate, br;q=1.0, x-gzip"), Form::Gzip);
        check(Some("*"), Form::Gzip);
        check(Some("gzip;q=0"), Form::Plain);
        check(Some("gzip;q=0, *"), Form::Plain);
        check(Some("*;q=0, gzip;q=0.001"), Form::Gzip);
        check(Some("identity;q=0"), Form::Plain);
        check(Some("gzip;q=;;=,,"), Form::Plain);
    }
}
