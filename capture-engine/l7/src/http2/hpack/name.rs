//! The names of fields that are read, and the fields that every table begins with (RFC 7541 appendix A).

/// What a field is called, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http2) enum Name {
    Method,
    Path,
    Authority,
    Host,
    Status,
    ContentType,
    GrpcStatus,
    /// Another pseudo-header field of requests.
    Scheme,
    /// A name that is known and not read.
    Other,
    /// It was said before anybody listened.
    Unknown,
}

/// A field of the static table. Values but those of pseudo-header fields are not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Static {
    pub name: Name,
    pub length: u8,
    pub value: &'static str,
}

/// Fields of the static table.
pub(super) const STATIC: usize = 61;

/// Lengths of the names from 15 to 61.
const LENGTHS: [u8; 47] = [
    14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8,
    12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];

impl Name {
    pub(super) fn of(name: &[u8]) -> Name {
        match name {
            b":method" => Name::Method,
            b":path" => Name::Path,
            b":authority" => Name::Authority,
            b":scheme" | b":protocol" => Name::Scheme,
            b":status" => Name::Status,
            b"host" => Name::Host,
            b"content-type" => Name::ContentType,
            b"grpc-status" => Name::GrpcStatus,
            _ => Name::Other,
        }
    }

    /// Names of requests' pseudo-header fields.
    pub(in crate::http2) fn is_of_request(self) -> bool {
        matches!(self, Name::Method | Name::Path | Name::Authority | Name::Scheme)
    }
}

/// Field `index` of the static table, from 1.
pub(super) fn fixed(index: usize) -> Option<Static> {
    let (name, length, value) = match index {
        1 => (Name::Authority, 10, ""),
        2 => (Name::Method, 7, "GET"),
        3 => (Name::Method, 7, "POST"),
        4 => (Name::Path, 5, "/"),
        5 => (Name::Path, 5, "/index.html"),
        6 => (Name::Scheme, 7, "http"),
        7 => (Name::Scheme, 7, "https"),
        8..=14 => {
            (Name::Status, 7, ["200", "204", "206", "304", "400", "404", "500"].get(index - 8).copied().unwrap_or(""))
        }
        15..=STATIC => {
            let name = match index {
                31 => Name::ContentType,
                38 => Name::Host,
                _ => Name::Other,
            };
            (name, LENGTHS.get(index - 15).copied()?, "")
        }
        _ => return None,
    };
    Some(Static { name, length, value })
}
