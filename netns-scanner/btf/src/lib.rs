//! Where a kernel keeps a field of its structs, and the numbers of its functions and constants, by
//! its own description of them (`Documentation/bpf/btf.rst`).
//!
//! The description is walked once, and nothing is built from it: 3 ms for the 150,000 types of a
//! distribution's kernel, where a library makes 36 MB of small pieces of it. It is bytes that
//! somebody else has read. Nothing in it is trusted beyond its length.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// A struct, and a member of it.
pub type Member = (&'static str, &'static str);

/// Kinds of types.
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
/// Anonymous structs and unions inside each other; the kernel has two or three.
const DEPTH: u32 = 8;

/// The types of a description by number, and those that were wanted by name.
#[derive(Clone, Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; number 0 is void.
    at: Vec<u32>,
    structs: Vec<(&'static str, u32)>,
    functions: Vec<(&'static str, u32)>,
}

impl<'a> Btf<'a> {
    /// Finds these structs (the first of each name) and functions. `None` for what is not BTF of
    /// version 1 in this machine's byte order, or is cut short.
    #[must_use]
    pub fn index(btf: &'a [u8], structs: &[&'static str], functions: &[&'static str]) -> Option<Btf<'a>> {
        if btf.get(..3)? != [0x9f, 0xeb, 1] {
            return None;
        }
        let part = |at: usize| -> Option<&'a [u8]> {
            let begin = number(btf, 4)?.checked_add(number(btf, at)?)?;
            let end = begin.checked_add(number(btf, at + 4)?)?;
            btf.get(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut out = Btf { types, strings, at: vec![u32::MAX], structs: Vec::new(), functions: Vec::new() };
        let mut wanted = structs.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut at = 0;
        while at < types.len() {
            let info = number(types, at + 4)?;
            let (kind, members) = (kind(info), usize::try_from(info & 0xffff).ok()?);
            let more = match kind {
                1 | 14 | 17 => 4,
                2 | 7..=12 | 16 | 18 => 0,
                3 => 12,
                STRUCT | UNION | 15 | 19 => members * 12,
                6 | 13 => members * 8,
                _ => return None,
            };
            let id = u32::try_from(out.at.len()).ok()?;
            out.at.push(u32::try_from(at).ok()?);
            if kind == STRUCT || kind == FUNC {
                let name = out.name(number(types, at)?);
                let called = |wanted: &&'static str| is_called(name, wanted);
                if kind == FUNC {
                    out.functions.extend(functions.iter().copied().find(called).map(|name| (name, id)));
                } else if let Some(place) = wanted.iter().position(called) {
                    out.structs.push((wanted.swap_remove(place), id));
                }
            }
            at += 12 + more;
        }
        Some(out)
    }

    /// From the beginning of a name to the end of all strings.
    fn name(&self, offset: u32) -> &'a [u8] {
        usize::try_from(offset).ok().and_then(|offset| self.strings.get(offset..)).unwrap_or_default()
    }

    /// The number of a wanted function; the last one of that name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<u32> {
        self.functions.iter().rev().find(|(found, _)| *found == name).map(|(_, id)| *id)
    }

    /// Bytes from the beginning of a wanted struct to its member, also where that is in an anonymous
    /// struct or union of it.
    #[must_use]
    pub fn offset(&self, member: Member) -> Option<u32> {
        self.bits(member).map(|bits| bits / 8)
    }

    /// The same in bits, for bit-fields.
    #[must_use]
    pub fn bits(&self, (of, member): Member) -> Option<u32> {
        let (_, id) = self.structs.iter().find(|(name, _)| *name == of)?;
        self.bits_of(*id, member, DEPTH)
    }

    /// The constants of the first enumeration of that name (of 32 bits), with what they stand for.
    #[must_use]
    pub fn constants(&self, name: &str) -> Option<Vec<(&'a str, u32)>> {
        let at = self.named(ENUM, name)?;
        let count = usize::try_from(number(self.types, at + 4)? & 0xffff).ok()?;
        let constant = |index: usize| {
            let place = at + 12 + index * 8;
            let name = self.name(number(self.types, place)?);
            let end = name.iter().position(|byte| *byte == 0)?;
            Some((std::str::from_utf8(name.get(..end)?).ok()?, number(self.types, place + 4)?))
        };
        (0..count).map(constant).collect()
    }

    /// How many arguments a tracepoint hands to those that wait at it. The kernel has for each a type of
    /// the functions that it calls (`btf_trace_NAME`), which take one more.
    #[must_use]
    pub fn arguments_of_tracepoint(&self, name: &str) -> Option<u32> {
        let behind = |at: usize| {
            let id = usize::try_from(number(self.types, at + 8)?).ok()?;
            usize::try_from(*self.at.get(id)?).ok()
        };
        let function = behind(behind(self.named(TYPEDEF, &format!("btf_trace_{name}"))?)?)?;
        let info = number(self.types, function.checked_add(4)?)?;
        (kind(info) == FUNC_PROTO).then_some((info & 0xffff).checked_sub(1)?)
    }

    /// Where the first type of this kind and name begins.
    fn named(&self, wanted: u32, name: &str) -> Option<usize> {
        let mut places = self.at.iter().skip(1).filter_map(|at| usize::try_from(*at).ok());
        places.find(|at| {
            let is_kind = number(self.types, at + 4).is_some_and(|info| kind(info) == wanted);
            is_kind && number(self.types, *at).is_some_and(|offset| is_called(self.name(offset), name))
        })
    }

    fn bits_of(&self, id: u32, wanted: &str, depth: u32) -> Option<u32> {
        let at = usize::try_from(*self.at.get(usize::try_from(id).ok()?)?).ok()?;
        let info = number(self.types, at.checked_add(4)?)?;
        if !matches!(kind(info), STRUCT | UNION) || depth == 0 {
            return None;
        }
        let has_bit_fields = info >> 31 == 1;
        (0..usize::try_from(info & 0xffff).ok()?).find_map(|index| {
            let member = at + 12 + index * 12;
            let field = |at: usize| number(self.types, member + at);
            let (name, kind, place) = (field(0)?, field(4)?, field(8)?);
            let place = if has_bit_fields { place & 0xff_ffff } else { place };
            if name == 0 {
                return self.bits_of(kind, wanted, depth - 1).and_then(|inner| place.checked_add(inner));
            }
            is_called(self.name(name), wanted).then_some(place)
        })
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn is_called(text: &[u8], name: &str) -> bool {
    text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEMBERS: [Member; 6] =
        [("outer", "a"), ("outer", "b"), ("outer", "c"), ("outer", "d"), ("outer", "e"), ("inner", "a")];

    /// `struct outer { int a; struct { int b; int c; }; int d : 3; }`, an int, a function, an enumeration
    /// `why { a = 7, act = 300 }`, and the type of a tracepoint `met` with two arguments.
    fn made() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0c\0d\0int\0act\0why\0btf_trace_met\0";
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
            vec![at(b"act\0"), FUNC << 24, 1],
            vec![at(b"why\0"), ENUM << 24 | 2, 4, at(b"a\0"), 7, at(b"act\0"), 300],
            vec![at(b"btf_trace_met\0"), TYPEDEF << 24, 7],
            vec![0, 2 << 24, 8],
            vec![0, FUNC_PROTO << 24 | 3, 0, 0, 1, 0, 1, 0, 1],
        ]
        .concat();
        let length = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let words = header.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        words.chain(strings.iter().copied()).collect()
    }

    fn index(blob: &[u8]) -> Option<Btf<'_>> {
        Btf::index(blob, &["outer", "inner"], &["act", "other"])
    }

    /// All that may be asked of it.
    fn ask(btf: &Btf<'_>) {
        for member in MEMBERS {
            assert_eq!(btf.offset(member), btf.bits(member).map(|bits| bits / 8));
        }
        let _ = ["act", "other", ""].map(|name| btf.function(name));
        let _ = ["why", "outer", ""].map(|name| btf.constants(name));
        let _ = ["met", ""].map(|name| btf.arguments_of_tracepoint(name));
    }

    #[test]
    fn members_are_found_also_in_what_has_no_name() {
        let blob = made();
        let btf = index(&blob).expect("BTF");
        assert_eq!(MEMBERS.map(|member| btf.offset(member)), [Some(0), Some(4), Some(8), Some(12), None, None]);
        assert_eq!((btf.bits(("outer", "c")), btf.bits(("outer", "d"))), (Some(64), Some(96)));
    }

    #[test]
    fn functions_are_found_by_their_whole_name() {
        let blob = made();
        let btf = Btf::index(&blob, &[], &["ac", "act", "acts"]).expect("BTF");
        assert_eq!(["ac", "act", "acts"].map(|name| btf.function(name)), [None, Some(4), None]);
        assert_eq!(btf.offset(("outer", "a")), None, "it was not wanted");
    }

    #[test]
    fn constants_and_arguments_are_told_by_name_and_none_where_there_is_no_such_thing() {
        let blob = made();
        let btf = index(&blob).expect("BTF");
        assert_eq!(btf.constants("why"), Some(vec![("a", 7), ("act", 300)]));
        assert_eq!([btf.constants("wh"), btf.constants("outer"), btf.constants("int")], [None, None, None]);
        assert_eq!((btf.arguments_of_tracepoint("met"), btf.arguments_of_tracepoint("me")), (Some(2), None));
    }

    #[test]
    fn what_is_cut_short_or_foreign_is_none() {
        let blob = made();
        for length in 0..blob.len() {
            assert!(index(&blob[..length]).is_none(), "{length}");
        }
        assert!(index(&[0; 64]).is_none());
        let mut other_order = blob.clone();
        other_order[..2].reverse();
        assert!(index(&other_order).is_none());
    }

    #[test]
    fn what_is_damaged_harms_nobody() {
        let blob = made();
        for place in 0..blob.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = blob.clone();
                damaged[place] = value;
                index(&damaged).iter().for_each(ask);
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_behind_a_good_header_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut blob = made();
            let end = blob.len().min(24 + bytes.len());
            blob[24..end].copy_from_slice(&bytes[..end - 24]);
            index(&blob).iter().for_each(ask);
            index(&bytes).iter().for_each(ask);
        }

        /// Kinds that are known, so that the walk goes far.
        #[test]
        fn structs_of_any_members_are_walked_to_an_end(words in proptest::collection::vec(0u32..40, 3..200)) {
            let length = words.len() as u32 * 4;
            let header = [0x0001_eb9f, 24, 0, length, length, 7];
            let types = words.iter().enumerate().map(|(at, word)| if at % 3 == 1 { STRUCT << 24 | word & 3 } else { *word });
            let blob: Vec<u8> =
                header.into_iter().chain(types).flat_map(u32::to_ne_bytes).chain(*b"\0outer\0").collect();
            index(&blob).iter().for_each(ask);
        }
    }
}
