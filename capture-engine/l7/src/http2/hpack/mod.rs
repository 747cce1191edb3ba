//! Header fields as HTTP/2 writes them: HPACK (RFC 7541), for one who may have come late or missed something.
//!
//! A field by an index that was not seen to be inserted is unknown. It is never guessed.

mod fields;
mod huffman;
mod name;
mod table;
mod value;
#[cfg(test)]
mod vectors;

pub(super) use fields::{Content, Fields, Of, Text};

use crate::http1::method::{printable, registered};
use name::{Name, STATIC};
use table::{Entry, Table};
use value::Value;

/// One direction's decoder.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
    /// A field that has begun and not ended.
    partial: Vec<u8>,
    /// The rest of the block is not read.
    broken: bool,
}

/// Bytes that are no fields, or of which more follow than are kept.
struct Broken;

/// A number of at most 2^28 (RFC 7541 section 5.1 leaves the bound to the reader).
const NUMBER_BITS: u32 = 28;

/// Longest value that is read; `flow-model` promises it.
const VALUE_MAX: usize = 1024;

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder { table: Table::new(), partial: Vec::new(), broken: false }
    }

    /// The next bytes of a block. `strings`: targets and hosts are wanted. At most `max` bytes of a field
    /// that is not whole are kept.
    pub(super) fn read(&mut self, bytes: &[u8], strings: bool, max: usize, fields: &mut Fields) {
        if self.broken {
            return;
        }
        if self.partial.is_empty() {
            let left = self.fields(bytes, strings, fields);
            if !self.broken && !left.is_empty() {
                self.partial.extend_from_slice(left);
            }
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(bytes);
            let used = partial.len() - self.fields(&partial, strings, fields).len();
            partial.drain(..used);
            self.partial = partial;
        }
        if self.partial.len() > max {
            self.lose();
        }
    }

    /// The block is over.
    pub(super) fn end(&mut self, fields: &mut Fields) {
        if !self.partial.is_empty() {
            self.lose();
        }
        fields.cut |= self.broken;
        self.broken = false;
        self.partial = Vec::new();
    }

    /// Bytes of the block are missing: nothing of the table is known any more, and nothing of the block's rest.
    pub(super) fn lose(&mut self) {
        self.broken = true;
        self.partial = Vec::new();
        self.table.forget();
    }

    /// Blocks were missed.
    pub(super) fn forget(&mut self) {
        self.lose();
        self.broken = false;
    }

    pub(super) fn buffered(&self) -> usize {
        self.partial.len()
    }

    pub(super) fn held(&self) -> usize {
        self.partial.capacity() + self.table.held()
    }

    /// Reads whole fields; the bytes of the one that is not whole.
    fn fields<'a>(&mut self, mut bytes: &'a [u8], strings: bool, fields: &mut Fields) -> &'a [u8] {
        while !bytes.is_empty() {
            match self.field(bytes, strings, fields) {
                Ok(0) => break,
                Ok(used) => bytes = bytes.get(used..).unwrap_or_default(),
                Err(Broken) => {
                    self.lose();
                    return &[];
                }
            }
        }
        bytes
    }

    /// Reads one field (RFC 7541 section 6); how many bytes it took, 0 where it is not whole.
    fn field(&mut self, bytes: &[u8], strings: bool, fields: &mut Fields) -> Result<usize, Broken> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        let (bits, indexed) = match first {
            0x80.. => {
                let Some((index, used)) = number(bytes, 7)? else { return Ok(0) };
                self.indexed(index, fields)?;
                return Ok(used);
            }
            0x40.. => (6, true),
            0x20.. => {
                let Some((size, used)) = number(bytes, 5)? else { return Ok(0) };
                self.table.resize(size);
                return Ok(used);
            }
            _ => (4, false),
        };
        let Some((index, mut used)) = number(bytes, bits)? else { return Ok(0) };
        let (name, name_length) = if index == 0 {
            let Some((text, length)) = string(bytes.get(used..).unwrap_or_default())? else { return Ok(0) };
            used += length;
            text.name()?
        } else {
            self.name(index)
        };
        let Some((text, length)) = string(bytes.get(used..).unwrap_or_default())? else { return Ok(0) };
        used += length;
        if indexed {
            let (value, value_length) = text.value(name)?;
            fields.put(name, &value);
            self.table.insert(name, name_length, value_length, value);
        } else if matches!(name, Name::Path) || strings && matches!(name, Name::Authority | Name::Host) {
            fields.put_text(name, printable(&text.bytes()?));
        } else if !matches!(name, Name::Other) {
            fields.put(name, &text.value(name)?.0);
        }
        Ok(used)
    }

    fn indexed(&self, index: u32, fields: &mut Fields) -> Result<(), Broken> {
        let index = index as usize;
        if index > STATIC {
            match self.table.get(index - STATIC - 1) {
                Some(Entry { name, value, .. }) => fields.put(*name, value),
                None => fields.unknown = true,
            }
            return Ok(());
        }
        let name::Static { name, value, .. } = name::fixed(index).ok_or(Broken)?;
        fields.method_by_index |= name == Name::Method;
        fields.scheme_by_index |= name == Name::Scheme;
        let value = match name {
            Name::Status => Value::Number(value.parse().unwrap_or_default()),
            Name::Method | Name::Path => Value::Word(value),
            _ => Value::Unread,
        };
        fields.put(name, &value);
        Ok(())
    }

    /// The name of the field at `index`, and its length.
    fn name(&self, index: u32) -> (Name, u32) {
        let index = index as usize;
        match (name::fixed(index), index.checked_sub(STATIC + 1).and_then(|place| self.table.get(place))) {
            (Some(fixed), _) => (fixed.name, u32::from(fixed.length)),
            (None, Some(entry)) => (entry.name, entry.name_length()),
            (None, None) => (Name::Unknown, 0),
        }
    }
}

/// A number whose first byte has `bits` of it (RFC 7541 section 5.1), and how long it is; `None` for more bytes.
fn number(bytes: &[u8], bits: u32) -> Result<Option<(u32, usize)>, Broken> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let most = (1_u32 << bits) - 1;
    let mut value = u32::from(first) & most;
    if value < most {
        return Ok(Some((value, 1)));
    }
    for (place, &byte) in rest.iter().enumerate() {
        let shift = 7 * place as u32;
        if shift >= NUMBER_BITS {
            return Err(Broken);
        }
        value += u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((value, place + 2)));
        }
    }
    Ok(None)
}

/// A string as it is written.
struct Written<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

/// A string (RFC 7541 section 5.2) and how long it is; `None` for more bytes.
fn string(bytes: &[u8]) -> Result<Option<(Written<'_>, usize)>, Broken> {
    let Some((length, used)) = number(bytes, 7)? else { return Ok(None) };
    let end = used + length as usize;
    let huffman = bytes.first().is_some_and(|first| first & 0x80 != 0);
    Ok(bytes.get(used..end).map(|bytes| (Written { bytes, huffman }, end)))
}

impl Written<'_> {
    /// Copies as much of it as fits into `into`; its length.
    fn copy(&self, into: &mut [u8]) -> Result<usize, Broken> {
        let mut length = 0;
        let mut each = |byte| {
            if let Some(place) = into.get_mut(length) {
                *place = byte;
            }
            length += 1;
        };
        if self.huffman {
            huffman::decode(self.bytes, each).ok_or(Broken)?;
        } else {
            self.bytes.iter().take(VALUE_MAX).for_each(|&byte| each(byte));
            length = self.bytes.len();
        }
        Ok(length)
    }

    fn name(&self) -> Result<(Name, u32), Broken> {
        // Longer than the names that are read.
        let mut name = [0; 16];
        let length = self.copy(&mut name)?;
        Ok((name.get(..length).map_or(Name::Other, Name::of), length as u32))
    }

    fn bytes(&self) -> Result<Vec<u8>, Broken> {
        if !self.huffman {
            return Ok(self.bytes.iter().take(VALUE_MAX).copied().collect());
        }
        let mut bytes = Vec::with_capacity(self.bytes.len().min(VALUE_MAX) * 3 / 2);
        huffman::decode(self.bytes, |byte| {
            if bytes.len() < VALUE_MAX {
                bytes.push(byte);
            }
        })
        .ok_or(Broken)?;
        Ok(bytes)
    }

    /// What is kept of it as the value of `name`, and its length.
    fn value(&self, name: Name) -> Result<(Value, u32), Broken> {
        let mut short = [0; 32];
        let length = self.copy(&mut short)?;
        let start = &short[..length.min(short.len())];
        let value = match name {
            Name::Other | Name::Scheme => Value::Unread,
            Name::Unknown => Value::Unknown,
            Name::Method => match registered(start).filter(|_| length <= short.len()) {
                Some(word) => Value::Word(word),
                None => Value::Text(printable(&self.bytes()?).into()),
            },
            Name::Path | Name::Authority | Name::Host => Value::Text(printable(&self.bytes()?).into()),
            Name::Status | Name::GrpcStatus => {
                let digits = start.iter().all(u8::is_ascii_digit).then_some(start);
                let number = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
                // A number of its own for what is none.
                Value::Number(number.unwrap_or(u16::MAX))
            }
            Name::ContentType => Value::Grpc(is_grpc(start)),
        };
        Ok((value, length as u32))
    }
}

/// `application/grpc`, with a suffix or parameters. gRPC-Web is another protocol.
fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let starts = content_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC));
    starts && matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}
