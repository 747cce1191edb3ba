use memchr::{memchr, memrchr};

/// What the bytes at the start of an HTTP/1 message are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan<T> {
    /// A whole head of `len` bytes, the blank line included.
    Complete { head: T, len: usize },
    /// So far it is a head; its blank line has not come.
    Partial,
    /// No HTTP/1 head begins here.
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V09,
    V10,
    V11,
}

impl Version {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Version::V09 => "0.9",
            Version::V10 => "1.0",
            Version::V11 => "1.1",
        }
    }
}

/// The fields that say where a message ends (RFC 9112 section 6), and the two that records show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub content_length: Option<u64>,
    pub chunked: bool,
    /// A Transfer-Encoding whose last coding is not chunked: the body ends with the connection.
    pub other_coding: bool,
    /// The body waits for an interim response (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// A response: the connection goes on as HTTP/2 (RFC 7540 section 3.2).
    pub h2c: bool,
    /// The same, as WebSocket (RFC 6455 section 4.2.2).
    pub websocket: bool,
    /// Fields contradict each other or are no numbers; the meaning that most servers take was taken.
    pub malformed: bool,
    /// A request: by its User-Agent it is a kubelet's probe.
    pub probe: bool,
    pub host: &'a [u8],
}

/// `kube-probe/` and a version is what the kubelet calls itself when it probes (kubernetes,
/// `pkg/probe/http`).
const PROBE: &[u8] = b"kube-probe/";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHead<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    /// The target's end was not captured.
    pub target_cut: bool,
    pub version: Version,
    pub fields: Fields<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead<'a> {
    pub status: u16,
    pub version: Version,
    pub fields: Fields<'a>,
}

/// Longest method token that is believed; the longest registered one (UPDATEREDIRECTREF) has 17 letters.
const METHOD_MAX: usize = 32;

/// Reads a request head. A request line that ends in anything but `HTTP/1.x` is none of HTTP/1's,
/// except `GET` with a path alone (HTTP/0.9).
pub(crate) fn request(bytes: &[u8]) -> Scan<RequestHead<'_>> {
    let Some(lf) = memchr(b'\n', bytes) else {
        return if request_may_begin(bytes) { Scan::Partial } else { Scan::Not };
    };
    let Some((method, target, version)) = request_line(strip_cr(&bytes[..lf])) else { return Scan::Not };
    if version == Version::V09 {
        let head = RequestHead { method, target, target_cut: false, version, fields: Fields::default() };
        return Scan::Complete { head, len: lf + 1 };
    }
    match fields(bytes, lf + 1, true) {
        (mut fields, Some(len)) => {
            fields.malformed |= target.is_empty();
            Scan::Complete { head: RequestHead { method, target, target_cut: false, version, fields }, len }
        }
        (_, None) => Scan::Partial,
    }
}

/// Reads what there is of a request head whose rest was not captured. `None` when not even the method is whole.
pub(crate) fn cut_request(bytes: &[u8]) -> Option<RequestHead<'_>> {
    if let Some(lf) = memchr(b'\n', bytes) {
        let (method, target, version) = request_line(strip_cr(&bytes[..lf]))?;
        let (fields, _) = fields(bytes, lf + 1, true);
        return Some(RequestHead { method, target, target_cut: false, version, fields });
    }
    if !known_request_begins(bytes) {
        return None;
    }
    let space = memchr(b' ', bytes)?;
    let rest = &bytes[space + 1..];
    let end = memchr(b' ', rest);
    let target = &rest[..end.unwrap_or(rest.len())];
    let (method, target_cut) = (&bytes[..space], end.is_none());
    Some(RequestHead { method, target, target_cut, version: Version::V11, fields: Fields::default() })
}

/// Reads a response head (RFC 9112 section 4); the reason phrase and even the space before it may be absent.
pub(crate) fn response(bytes: &[u8]) -> Scan<ResponseHead<'_>> {
    match status_line(bytes) {
        Scan::Complete { head: (version, status), .. } => match memchr(b'\n', bytes) {
            None => Scan::Partial,
            Some(lf) => match fields(bytes, lf + 1, false) {
                (fields, Some(len)) => Scan::Complete { head: ResponseHead { status, version, fields }, len },
                (_, None) => Scan::Partial,
            },
        },
        Scan::Partial => Scan::Partial,
        Scan::Not => Scan::Not,
    }
}

/// Reads what there is of a response head whose rest was not captured.
pub(crate) fn cut_response(bytes: &[u8]) -> Option<ResponseHead<'_>> {
    let Scan::Complete { head: (version, status), .. } = status_line(bytes) else { return None };
    let after = memchr(b'\n', bytes).map_or(bytes.len(), |lf| lf + 1);
    let (fields, _) = fields(bytes, after, false);
    Some(ResponseHead { status, version, fields })
}

/// Whether a status line begins here for certain: version and three digits are whole.
pub(crate) fn response_begins(bytes: &[u8]) -> bool {
    matches!(status_line(bytes), Scan::Complete { .. })
}

fn status_line(bytes: &[u8]) -> Scan<(Version, u16)> {
    const SHAPE: &[u8] = b"HTTP/1.d ddd";
    for (byte, shape) in bytes.iter().zip(SHAPE) {
        let fits = if *shape == b'd' { byte.is_ascii_digit() } else { byte == shape };
        if !fits {
            return Scan::Not;
        }
    }
    let Some(&[minor, _, a, b, c]) = bytes.get(7..12) else { return Scan::Partial };
    if bytes.get(12).is_some_and(u8::is_ascii_digit) || a == b'0' {
        return Scan::Not;
    }
    let digit = |d: u8| u16::from(d - b'0');
    Scan::Complete { head: (version_of(minor), digit(a) * 100 + digit(b) * 10 + digit(c)), len: 12 }
}

fn version_of(minor: u8) -> Version {
    if minor == b'0' { Version::V10 } else { Version::V11 }
}

/// Method, target and version of a whole request line.
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], Version)> {
    let space = memchr(b' ', line).filter(|&at| at > 0 && at <= METHOD_MAX)?;
    let (method, rest) = (&line[..space], &line[space + 1..]);
    if !method.iter().all(|&b| is_token(b)) {
        return None;
    }
    let line_end = rest.trim_ascii_end();
    let (target, protocol) = match memrchr(b' ', line_end) {
        Some(at) => (line_end[..at].trim_ascii(), &line_end[at + 1..]),
        None => (&b""[..], line_end),
    };
    if let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] = *protocol {
        // Without a target it is a request only if it looks like one in everything else.
        let known = !target.is_empty() || super::method::registered(method).is_some();
        return known.then_some((method, target, version_of(minor)));
    }
    let path = rest.trim_ascii();
    let simple = method == b"GET" && path.first() == Some(&b'/') && memchr(b' ', path).is_none();
    (simple && !path.iter().any(|b| b.is_ascii_control())).then_some((method, path, Version::V09))
}

/// Whether bytes without a line end may become a request line.
fn request_may_begin(bytes: &[u8]) -> bool {
    match memchr(b' ', bytes) {
        Some(space) => {
            space > 0
                && space <= METHOD_MAX
                && bytes[..space].iter().all(|&b| is_token(b))
                && !strip_cr(&bytes[space..]).iter().take(64).any(|b| b.is_ascii_control())
        }
        None => bytes.len() <= METHOD_MAX && bytes.iter().all(|&b| is_token(b)),
    }
}

/// Whether the bytes may begin a request where nothing is known of what came before them: its
/// method is spelt like methods are, in upper case. Any token is one (RFC 9110 section 9.1), but so
/// is the end of many a body.
pub(crate) fn request_likely(bytes: &[u8]) -> bool {
    let method = &bytes[..memchr(b' ', bytes).unwrap_or(bytes.len())];
    method.first().is_some_and(u8::is_ascii_uppercase)
        && method.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(b))
        && request(bytes) != Scan::Not
}

/// Whether this is the start of a request for certain, though its line has no end yet: a registered
/// method and the beginning of a target in one of its four forms (RFC 9112 section 3.2).
pub(crate) fn known_request_begins(bytes: &[u8]) -> bool {
    let Some(space) = memchr(b' ', &bytes[..bytes.len().min(METHOD_MAX + 1)]) else { return false };
    let rest = &bytes[space + 1..];
    let target = rest.first() == Some(&b'/') || rest.starts_with(b"http://") || rest.starts_with(b"https://");
    super::method::registered(&bytes[..space]).is_some() && target && request_may_begin(&bytes[..bytes.len().min(256)])
}

/// Walks the field lines from `at`; the length of the whole head when its blank line is there.
fn fields(bytes: &[u8], mut at: usize, request: bool) -> (Fields<'_>, Option<usize>) {
    let mut fields = Fields::default();
    let mut folded: Option<Name> = None;
    while let Some(length) = bytes.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        let line = strip_cr(&bytes[at..at + length]);
        at += length + 1;
        let Some(&first) = line.first() else { return (fields, Some(at)) };
        match first | 0x20 {
            b' ' | b'\t' | 0x29 => {
                // A folded line (RFC 9112 section 5.2) goes on with the value before it.
                if let Some(name) = folded {
                    fields.add(name, line.trim_ascii());
                }
            }
            b'c' | b't' | b'h' | b'e' | b'u' => {
                folded = Name::of(line, request);
                if let (Some(name), Some(colon)) = (folded, memchr(b':', line)) {
                    fields.add(name, line[colon + 1..].trim_ascii());
                }
            }
            _ => folded = None,
        }
    }
    (fields, None)
}

#[derive(Clone, Copy)]
enum Name {
    ContentLength,
    TransferEncoding,
    Host,
    Expect,
    Upgrade,
    UserAgent,
}

impl Name {
    fn of(line: &[u8], request: bool) -> Option<Name> {
        let is = |name: &[u8]| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line[name.len()..].trim_ascii_start().first() == Some(&b':')
        };
        match line.first()? | 0x20 {
            b'c' if is(b"content-length") => Some(Name::ContentLength),
            b't' if is(b"transfer-encoding") => Some(Name::TransferEncoding),
            b'h' if request && is(b"host") => Some(Name::Host),
            b'e' if request && is(b"expect") => Some(Name::Expect),
            b'u' if !request && is(b"upgrade") => Some(Name::Upgrade),
            b'u' if request && is(b"user-agent") => Some(Name::UserAgent),
            _ => None,
        }
    }
}

impl<'a> Fields<'a> {
    fn add(&mut self, name: Name, value: &'a [u8]) {
        match name {
            Name::Host if self.host.is_empty() => self.host = value,
            Name::Host => self.malformed = true,
            Name::Expect => self.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            Name::Upgrade => {
                self.h2c = value.eq_ignore_ascii_case(b"h2c");
                self.websocket = value.eq_ignore_ascii_case(b"websocket");
            }
            Name::UserAgent => self.probe = value.starts_with(PROBE),
            Name::ContentLength => self.add_length(value),
            Name::TransferEncoding => {
                for coding in value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty()) {
                    self.chunked = coding.eq_ignore_ascii_case(b"chunked");
                    self.other_coding = !self.chunked && !coding.eq_ignore_ascii_case(b"identity");
                }
            }
        }
    }

    /// "5", "5, 5" and the same field twice are one length (RFC 9112 section 6.3); of different
    /// ones the first is taken.
    fn add_length(&mut self, value: &[u8]) {
        for number in value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|number| !number.is_empty()) {
            match (decimal(number), self.content_length) {
                (None, _) => self.malformed = true,
                (Some(length), None) => self.content_length = Some(length),
                (Some(length), Some(before)) => self.malformed |= length != before,
            }
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> (RequestHead<'_>, usize) {
        match request(bytes) {
            Scan::Complete { head, len } => (head, len),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn usual_request_head() {
        let bytes = b"GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\nrest";
        let (head, len) = whole(bytes);
        assert_eq!((head.method, head.target, head.fields.host), (&b"GET"[..], &b"/a?b"[..], &b"x"[..]));
        assert_eq!(&bytes[len..], b"rest");
    }

    #[test]
    fn a_probe_is_known_by_its_user_agent() {
        let probe = |agent: &str| {
            let text = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{agent}\r\nAccept: */*\r\n\r\n");
            whole(text.as_bytes()).0.fields.probe
        };
        assert!(probe("User-Agent: kube-probe/1.36") && probe("user-agent:kube-probe/1.2+"));
        for other in ["User-Agent: curl/8 kube-probe/1.36", "User-Agent: kube-probe", "X-User-Agent: kube-probe/1.36"] {
            assert!(!probe(other), "{other}");
        }
    }

    #[test]
    fn bare_line_feeds_and_folded_fields_are_read() {
        let (head, _) = whole(b"POST / HTTP/1.0\nTransfer-Encoding:\n\tchunked\nhOsT : y\n\n");
        assert!(head.fields.chunked);
        assert_eq!((head.version, head.fields.host), (Version::V10, &b"y"[..]));
    }

    #[test]
    fn lengths_that_agree_are_one_and_others_are_malformed() {
        let (head, _) = whole(b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n");
        assert_eq!((head.fields.content_length, head.fields.malformed), (Some(5), false));
        let (head, _) = whole(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n");
        assert_eq!((head.fields.content_length, head.fields.malformed), (Some(5), true));
    }

    #[test]
    fn any_token_is_a_method_but_only_with_http_1() {
        assert_eq!(whole(b"QUERY /x HTTP/1.1\r\n\r\n").0.method, b"QUERY");
        assert_eq!(request(b"OPTIONS sip:a SIP/2.0\r\n\r\n"), Scan::Not);
        assert_eq!(request(b"DESCRIBE rtsp://a RTSP/1.0\r\n\r\n"), Scan::Not);
        assert_eq!(request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Scan::Not);
        assert_eq!(request(b"*1\r\n$4\r\nPING\r\n"), Scan::Not);
        assert_eq!(request(b"\x16\x03\x01\x02\x00"), Scan::Not);
    }

    #[test]
    fn every_prefix_of_a_head_is_partial() {
        let request_bytes = b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n";
        let response_bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        for cut in 1..request_bytes.len() {
            assert_eq!(request(&request_bytes[..cut]), Scan::Partial, "{cut}");
        }
        for cut in 1..response_bytes.len() {
            assert_eq!(response(&response_bytes[..cut]), Scan::Partial, "{cut}");
        }
    }

    #[test]
    fn response_needs_no_reason_phrase() {
        let Scan::Complete { head, .. } = response(b"HTTP/1.1 204\r\n\r\n") else { panic!() };
        assert_eq!(head.status, 204);
        assert_eq!(response(b"HTTP/1.1 2000 OK\r\n\r\n"), Scan::Not);
        assert_eq!(response(b"http/1.1 200 OK\r\n\r\n"), Scan::Not);
        assert_eq!(response(b"HTTP/2 200\r\n\r\n"), Scan::Not);
    }

    #[test]
    fn cut_request_keeps_method_and_the_target_so_far() {
        let head = cut_request(b"GET /a/very/long").unwrap();
        assert_eq!((head.method, head.target), (&b"GET"[..], &b"/a/very/long"[..]));
        assert_eq!(cut_request(b"GE"), None);
        assert_eq!(cut_request(b"GET /a HTTP/1.1\r\nHo").unwrap().target, b"/a");
    }

    #[test]
    fn simple_request_is_http_0_9() {
        let (head, len) = whole(b"GET /x\r\n");
        assert_eq!((head.version, len), (Version::V09, 8));
    }
}
