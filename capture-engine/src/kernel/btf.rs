//! Where the running kernel keeps a field of its structs, by its own description of them
//! (`Documentation/bpf/btf.rst`). It is walked once, and nothing is built from it: a library makes
//! 36 MB of small pieces of it, of which the few offsets that are wanted here are 28 bytes.

use std::collections::HashMap;

/// A member of a struct.
pub type Member = (&'static str, &'static str);

const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Anonymous structs and unions inside each other; the kernel has two or three.
const DEPTH: u32 = 8;

/// The types of a BTF blob by number, and those that were wanted by name.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; number 0 is void.
    at: Vec<u32>,
    structs: HashMap<&'static str, u32>,
}

impl<'a> Btf<'a> {
    /// None for what is not BTF of version 1 in this machine's byte order. Nothing read from it is
    /// trusted beyond its length.
    pub fn index(btf: &'a [u8], wanted: &[&'static str]) -> Option<Btf<'a>> {
        if btf.get(..3)? != [0x9f, 0xeb, 1] {
            return None;
        }
        let part = |at: usize| -> Option<&'a [u8]> {
            let begin = number(btf, 4)?.checked_add(number(btf, at)?)?;
            let end = begin.checked_add(number(btf, at + 4)?)?;
            btf.get(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut out = Btf { types, strings, at: vec![u32::MAX], structs: HashMap::new() };
        let mut at = 0;
        while at < types.len() {
            let info = number(types, at + 4)?;
            let (kind, members) = (info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?);
            let more = match kind {
                1 | 14 | 17 => 4,
                2 | 7..=12 | 16 | 18 => 0,
                3 => 12,
                STRUCT | UNION | 15 | 19 => members * 12,
                6 | 13 => members * 8,
                _ => return None,
            };
            if kind == STRUCT {
                let name = number(types, at)?;
                if let Some(wanted) = wanted.iter().find(|wanted| out.is_called(name, wanted)) {
                    out.structs.entry(wanted).or_insert(u32::try_from(out.at.len()).ok()?);
                }
            }
            out.at.push(u32::try_from(at).ok()?);
            at += 12 + more;
        }
        Some(out)
    }

    fn is_called(&self, name: u32, wanted: &str) -> bool {
        let text = usize::try_from(name).ok().and_then(|at| self.strings.get(at..)).unwrap_or_default();
        text.starts_with(wanted.as_bytes()) && text.get(wanted.len()) == Some(&0)
    }

    /// Bytes from the beginning of a wanted struct to its member.
    pub fn offset(&self, (of, member): Member) -> Option<u32> {
        self.bits(*self.structs.get(of)?, member, DEPTH).map(|bits| bits / 8)
    }

    fn bits(&self, id: u32, wanted: &str, depth: u32) -> Option<u32> {
        let at = usize::try_from(*self.at.get(usize::try_from(id).ok()?)?).ok()?;
        let info = number(self.types, at.checked_add(4)?)?;
        if !matches!(info >> 24 & 0x1f, STRUCT | UNION) || depth == 0 {
            return None;
        }
        let has_bit_fields = info >> 31 == 1;
        (0..usize::try_from(info & 0xffff).ok()?).find_map(|index| {
            let member = at + 12 + index * 12;
            let field = |at: usize| number(self.types, member + at);
            let (name, kind, place) = (field(0)?, field(4)?, field(8)?);
            let place = if has_bit_fields { place & 0xff_ffff } else { place };
            if name == 0 {
                return self.bits(kind, wanted, depth - 1).and_then(|inner| place.checked_add(inner));
            }
            self.is_called(name, wanted).then_some(place)
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; struct { int b; int c; }; int d : 3; }`, and an int.
    fn made() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0c\0d\0int\0";
        let at = |text: &[u8]| strings.windows(text.len()).position(|window| window == text).expect("there") as u32;
        let types: Vec<u32> = [
            vec![at(b"int\0"), 1 << 24, 4, 32],
            vec![0, STRUCT << 24 | 2, 8, at(b"b\0"), 1, 0, at(b"c\0"), 1, 32],
            vec![
                at(b"outer\0"),
                1 << 31 | STRUCT << 24 | 3,
                16,
                at(b"a\0"),
                1,
                0,
                0,
                2,
                32,
                at(b"d\0"),
                1,
                3 << 24 | 96,
            ],
        ]
        .concat();
        let length = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let words = header.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        words.chain(strings.iter().copied()).collect()
    }

    #[test]
    fn members_are_found_also_in_what_has_no_name() {
        let blob = made();
        let btf = Btf::index(&blob, &["outer"]).expect("BTF");
        let places = ["a", "b", "c", "d", "e"].map(|member| btf.offset(("outer", member)));
        assert_eq!(places, [Some(0), Some(4), Some(8), Some(12), None]);
        assert_eq!(btf.offset(("inner", "a")), None);
    }

    #[test]
    fn what_is_cut_short_or_damaged_harms_nobody() {
        let blob = made();
        for length in 0..blob.len() {
            let btf = Btf::index(&blob[..length], &["outer"]);
            assert!(btf.is_none(), "{length}");
        }
        for place in 0..blob.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = blob.clone();
                damaged[place] = value;
                if let Some(btf) = Btf::index(&damaged, &["outer"]) {
                    let _ = ["a", "b", "c", "d"].map(|member| btf.offset(("outer", member)));
                }
            }
        }
    }
}
