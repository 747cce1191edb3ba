//! Fields of protobuf, written straight to bytes, and read one at a time.

use crate::histogram::varint::{push as varint, take};

/// How sint32 and sint64 are mapped to unsigned: small in magnitude is small.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(crate) fn uint(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

pub(crate) fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Field<'a> {
    Uint(u64),
    Bytes(&'a [u8]),
    /// Of a kind that no version of ours writes here.
    Other,
}

/// The fields of a message with their numbers; `None` once where it is damaged.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = take(&mut self.0)?;
        let field = match tag & 7 {
            0 => Field::Uint(take(&mut self.0)?),
            1 => self.split(8).map(|_| Field::Other)?,
            2 => {
                let length = take(&mut self.0)?;
                Field::Bytes(self.split(usize::try_from(length).ok()?)?)
            }
            5 => self.split(4).map(|_| Field::Other)?,
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn split(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_come_back_as_they_went() {
        let mut out = Vec::new();
        uint(&mut out, 1, 300);
        bytes(&mut out, 2, b"ab");
        double(&mut out, 3, 1.5);
        uint(&mut out, 400, zigzag(-7));
        let read: Option<Vec<_>> = Fields(&out).collect();
        let sent = [(1, Field::Uint(300)), (2, Field::Bytes(b"ab")), (3, Field::Other), (400, Field::Uint(13))];
        assert_eq!(read.unwrap(), sent);
        assert_eq!([i64::MIN, -7, 0, 7, i64::MAX].map(|n| unzigzag(zigzag(n))), [i64::MIN, -7, 0, 7, i64::MAX]);
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_message_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Fields(&bytes).take(300).count() < 300);
        }
    }
}
