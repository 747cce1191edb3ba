use std::fmt::Write;

/// Longest name on the wire, length bytes and the root included (RFC 1035 2.3.4).
const MAX_NAME: usize = 255;

/// Reads the name at `at` and returns its text and the offset after it. `None` when it leaves the
/// message, breaks the length rules, or points anywhere but backwards.
pub(super) fn read(message: &[u8], at: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut here = at;
    // Every pointer has to go before the labels that led to it: offsets fall strictly, so no loop is possible.
    let mut segment_start = at;
    let mut after = None;
    let mut wire = 1;
    loop {
        let len = usize::from(*message.get(here)?);
        match len >> 6 {
            0 if len == 0 => return Some((text, after.unwrap_or(here + 1))),
            0 => {
                let label = message.get(here + 1..here + 1 + len)?;
                wire += len + 1;
                if wire > MAX_NAME {
                    return None;
                }
                if !text.is_empty() {
                    text.push('.');
                }
                push_label(&mut text, label);
                here += 1 + len;
            }
            3 => {
                let low = usize::from(*message.get(here + 1)?);
                let target = (len & 0x3f) << 8 | low;
                if target >= segment_start {
                    return None;
                }
                after.get_or_insert(here + 2);
                segment_start = target;
                here = target;
            }
            // 01 and 10 are reserved (RFC 6891 5: extended label types were withdrawn).
            _ => return None,
        }
    }
}

/// Offset after the name at `at`, without following its pointer.
pub(super) fn skip(message: &[u8], at: usize) -> Option<usize> {
    let mut here = at;
    loop {
        let len = usize::from(*message.get(here)?);
        match len >> 6 {
            0 if len == 0 => return Some(here + 1),
            0 => here += 1 + len,
            3 => {
                message.get(here + 1)?;
                return Some(here + 2);
            }
            _ => return None,
        }
        if here - at > MAX_NAME {
            return None;
        }
    }
}

/// The bytes end within the name at `at`, which is one so far.
pub(super) fn is_cut(message: &[u8], at: usize) -> bool {
    let mut here = at;
    while let Some(&len) = message.get(here) {
        match len >> 6 {
            0 if len == 0 || here - at > MAX_NAME => return false,
            0 => here += 1 + usize::from(len),
            3 => return here + 1 == message.len(),
            _ => return false,
        }
    }
    here - at <= MAX_NAME
}

/// Master file form (RFC 1035 5.1): a dot or backslash inside a label is escaped, other bytes
/// outside printable ASCII are `\DDD`.
fn push_label(text: &mut String, label: &[u8]) {
    for &byte in label {
        match byte {
            b'.' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\{byte:03}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_name_is_followed_and_ends_after_its_pointer() {
        let message = b"\x03com\x00\x07example\xc0\x00\xff";
        assert_eq!(read(message, 5), Some(("example.com".into(), 15)));
        assert_eq!(skip(message, 5), Some(15));
    }

    #[test]
    fn pointers_to_themselves_or_forwards_are_refused() {
        assert_eq!(read(b"\xc0\x00", 0), None);
        assert_eq!(read(b"\x01a\xc0\x00", 0), None);
        assert_eq!(read(b"\xc0\x02\x01a\x00", 0), None);
    }

    #[test]
    fn root_is_empty_and_odd_bytes_are_escaped() {
        assert_eq!(read(b"\x00", 0), Some((String::new(), 1)));
        assert_eq!(read(b"\x05a.b\\\x00\x00", 0), Some((r"a\.b\\\000".into(), 7)));
    }

    #[test]
    fn a_name_is_cut_where_more_of_it_may_come() {
        let name = b"\x07example\x03com\x00";
        for end in 0..name.len() {
            assert!(is_cut(&name[..end], 0), "{end}");
        }
        assert!(!is_cut(name, 0));
        assert!(is_cut(b"\x01a\xc0", 0));
        for other in [&b"\x01a\xc0\x00"[..], b"\x01a\x40", b"\x80"] {
            assert!(!is_cut(other, 0), "{other:?}");
        }
    }

    #[test]
    fn name_longer_than_255_is_refused() {
        let mut long = Vec::new();
        for _ in 0..4 {
            long.push(63);
            long.extend([b'x'; 63]);
        }
        long.push(0);
        assert_eq!(read(&long, 0), None);
        assert!(read(&long, 64).is_some());
    }
}
