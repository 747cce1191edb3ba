//! The Huffman code of RFC 7541 appendix B.
//!
//! It is canonical: codes of one length follow each other in the order of their symbols. So the
//! lengths say all of it, and the tables are made of them when this is compiled.

/// Bits of each symbol's code, from 0 to 255 and the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LONGEST: usize = 30;

struct Tables {
    /// By length: the first code of it, how many there are, and where their symbols begin.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    begin: [usize; LONGEST + 1],
    symbols: [u16; 257],
    /// By the next eight bits: the symbol and its length; 0 where the code is longer.
    short: [(u8, u8); 256],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables {
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        begin: [0; LONGEST + 1],
        symbols: [0; 257],
        short: [(0, 0); 256],
    };
    let (mut length, mut code, mut place) = (1, 0_u32, 0);
    while length <= LONGEST {
        tables.first[length] = code;
        tables.begin[length] = place;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[place] = symbol as u16;
                if length <= 8 {
                    let (mut at, spread) = ((code as usize) << (8 - length), 1 << (8 - length));
                    let end = at + spread;
                    while at < end {
                        tables.short[at] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                place += 1;
                code += 1;
                tables.count[length] += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    tables
}

/// Reads a string and hands over its bytes; `None` where it is no such code (RFC 7541 section 5.2).
pub(super) fn decode(bytes: &[u8], mut each: impl FnMut(u8)) -> Option<()> {
    // The lowest `have` bits are those that were not used yet: never more than 37.
    let (mut bits, mut have) = (0_u64, 0_u32);
    for &byte in bytes {
        bits = bits << 8 | u64::from(byte);
        have += 8;
        while have >= 8 {
            let (symbol, length) = TABLES.short[usize::from((bits >> (have - 8)) as u8)];
            if length > 0 {
                each(symbol);
                have -= u32::from(length);
                continue;
            }
            let Some((symbol, length)) = long(bits, have)? else { break };
            each(symbol);
            have -= length;
        }
    }
    while have > 0 && have < 8 {
        let ones = (1_u64 << (8 - have)) - 1;
        let (symbol, length) = TABLES.short[usize::from((bits << (8 - have) | ones) as u8)];
        if length == 0 || u32::from(length) > have {
            break;
        }
        each(symbol);
        have -= u32::from(length);
    }
    // What is left are the first bits of the string's end, which are ones.
    let ones = (1_u64 << have) - 1;
    (have < 8 && bits & ones == ones).then_some(())
}

/// A code of more than eight bits; `Some(None)` where its end has not come, `None` for the string's end.
#[expect(clippy::option_option, reason = "an error, more bits, or a symbol")]
fn long(bits: u64, have: u32) -> Option<Option<(u8, u32)>> {
    for length in 9..=(LONGEST as u32).min(have) {
        let code = (bits >> (have - length)) as u32 & ((1 << length) - 1);
        let at = length as usize;
        let place = code.wrapping_sub(TABLES.first[at]);
        if place < TABLES.count[at] {
            let symbol = TABLES.symbols.get(TABLES.begin[at] + place as usize)?;
            return Some(Some((u8::try_from(*symbol).ok()?, length)));
        }
    }
    if have >= LONGEST as u32 { None } else { Some(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(bytes, |byte| text.push(byte))?;
        Some(text)
    }

    /// As an encoder writes it: codes one after the other, filled up with ones.
    fn encode(text: &[u8]) -> Vec<u8> {
        let code = |symbol: u8| {
            let length = usize::from(LENGTHS[usize::from(symbol)]);
            let symbols = &TABLES.symbols[TABLES.begin[length]..];
            let place = symbols.iter().position(|&other| other == u16::from(symbol)).unwrap_or(0);
            (TABLES.first[length] + place as u32, length as u32)
        };
        let mut bits: Vec<bool> = Vec::new();
        for &symbol in text {
            let (code, length) = code(symbol);
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(text(bytes).as_deref(), Some(expected.as_bytes()));
        check(b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", "www.example.com");
        check(b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache");
        check(b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key");
        check(b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value");
        check(b"\x64\x02", "302");
        check(b"\xae\xc3\x77\x1a\x4b", "private");
        check(b"", "");
    }

    #[test]
    fn every_byte_comes_back_as_it_was_written() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(text(&encode(&all)).as_deref(), Some(&all[..]));
        for byte in all {
            let some = [byte, b'a', byte, byte];
            assert_eq!(text(&encode(&some)).as_deref(), Some(&some[..]));
        }
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        let of = |symbol| (TABLES.first[LENGTHS[symbol] as usize], LENGTHS[symbol]);
        assert_eq!(of(usize::from(b'0')), (0x0, 5));
        assert_eq!(of(256).1, 30);
        assert_eq!(TABLES.first[30] + TABLES.count[30] - 1, 0x3fff_ffff, "the string's end is all ones");
        assert_eq!(TABLES.count.iter().sum::<u32>(), 257);
    }

    #[test]
    fn padding_that_is_no_padding_is_refused() {
        assert_eq!(text(&[0xff]), None, "eight bits of it");
        assert_eq!(text(&[0x00]), None, "zeros");
        assert_eq!(text(&[0xff, 0xff, 0xff, 0xff, 0xff]), None, "the string's end within it");
        assert_eq!(text(&[0x1f, 0xff]), None, "more than seven bits");
    }
}
