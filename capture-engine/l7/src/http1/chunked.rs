use memchr::memchr;

/// Where in a chunked body (RFC 9112 section 7.1) the next byte falls. Data is counted, never kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// In the digits of a chunk's size.
    Size {
        value: u64,
        digits: u8,
    },
    /// Between the size and the end of its line: extensions.
    Extension {
        value: u64,
    },
    /// In chunk data, this many bytes before its end.
    Data(u64),
    /// Before the line end that closes a chunk's data.
    DataEnd,
    /// In the trailer section; the line so far is empty.
    TrailerStart,
    Trailer,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All bytes belong to the body.
    More,
    /// The body ended after this many bytes.
    Done(usize),
    /// Not chunked coding; the place is after this many bytes.
    Broken(usize),
}

impl Chunked {
    pub(crate) const START: Chunked = Chunked::Size { value: 0, digits: 0 };

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match *self {
                Chunked::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += here;
                    let left = left - here as u64;
                    *self = if left == 0 { Chunked::DataEnd } else { Chunked::Data(left) };
                    continue;
                }
                Chunked::Size { value, digits } => match (char::from(byte).to_digit(16), byte) {
                    // 16 digits are 2^64: no chunk is longer.
                    (Some(digit), _) if digits < 16 => {
                        *self = Chunked::Size { value: (value << 4) | u64::from(digit), digits: digits + 1 };
                    }
                    (None, b'\n') if digits > 0 => *self = Chunked::after_size(value),
                    (None, b';' | b' ' | b'\t' | b'\r') if digits > 0 => *self = Chunked::Extension { value },
                    _ => return Step::Broken(at),
                },
                Chunked::Extension { value } => match memchr(b'\n', &bytes[at..]) {
                    Some(lf) => {
                        at += lf;
                        *self = Chunked::after_size(value);
                    }
                    None => return Step::More,
                },
                Chunked::DataEnd => match byte {
                    b'\r' => {}
                    b'\n' => *self = Chunked::START,
                    _ => return Step::Broken(at),
                },
                Chunked::TrailerStart => match byte {
                    b'\r' => {}
                    b'\n' => return Step::Done(at + 1),
                    _ => *self = Chunked::Trailer,
                },
                Chunked::Trailer => match memchr(b'\n', &bytes[at..]) {
                    Some(lf) => {
                        at += lf;
                        *self = Chunked::TrailerStart;
                    }
                    None => return Step::More,
                },
            }
            at += 1;
        }
        Step::More
    }

    /// Moves over `bytes` that were not seen; false when the framing is lost with them.
    pub(crate) fn skip(&mut self, bytes: u64) -> bool {
        match *self {
            Chunked::Data(left) if bytes < left => *self = Chunked::Data(left - bytes),
            Chunked::Data(left) if bytes == left => *self = Chunked::DataEnd,
            _ => return bytes == 0,
        }
        true
    }

    fn after_size(value: u64) -> Chunked {
        if value == 0 { Chunked::TrailerStart } else { Chunked::Data(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Chunked {
        Chunked::START
    }

    #[test]
    fn extensions_and_trailers_belong_to_the_body() {
        let body = b"5;x=\"y\"\r\nhello\r\n3 \r\nabc\r\n0\r\nTrailer: z\r\n\r\nNEXT";
        assert_eq!(start().feed(body), Step::Done(body.len() - 4));
        for cut in 0..body.len() - 4 {
            let mut state = start();
            assert_eq!(state.feed(&body[..cut]), Step::More);
            assert_eq!(state.feed(&body[cut..]), Step::Done(body.len() - 4 - cut), "{cut}");
        }
    }

    #[test]
    fn what_is_not_chunked_is_told() {
        assert_eq!(start().feed(b"hello"), Step::Broken(0));
        assert_eq!(start().feed(b"3\r\nabcd"), Step::Broken(6));
        assert_eq!(start().feed(b"ffffffffffffffff1\r\n"), Step::Broken(16));
    }

    #[test]
    fn unseen_data_is_counted_but_unseen_framing_is_lost() {
        let mut state = start();
        state.feed(b"64\r\n");
        assert!(state.skip(100));
        assert_eq!(state.feed(b"\r\n0\r\n\r\n"), Step::Done(7));
        let mut state = start();
        state.feed(b"64\r\n");
        assert!(!state.skip(101));
    }
}
