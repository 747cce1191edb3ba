use std::borrow::Cow;

/// The static name of a method from IANA's registry (RFC 9110 section 16.1 and what followed), which records borrow.
pub(crate) fn registered(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        b"GET" => "GET",
        b"POST" => "POST",
        b"HEAD" => "HEAD",
        b"PUT" => "PUT",
        b"DELETE" => "DELETE",
        b"CONNECT" => "CONNECT",
        b"OPTIONS" => "OPTIONS",
        b"TRACE" => "TRACE",
        b"PATCH" => "PATCH",
        b"QUERY" => "QUERY",
        b"PROPFIND" => "PROPFIND",
        b"PROPPATCH" => "PROPPATCH",
        b"MKCOL" => "MKCOL",
        b"COPY" => "COPY",
        b"MOVE" => "MOVE",
        b"LOCK" => "LOCK",
        b"UNLOCK" => "UNLOCK",
        b"REPORT" => "REPORT",
        b"SEARCH" => "SEARCH",
        b"NOTIFY" => "NOTIFY",
        b"SUBSCRIBE" => "SUBSCRIBE",
        b"UNSUBSCRIBE" => "UNSUBSCRIBE",
        b"PURGE" => "PURGE",
        _ => return None,
    })
}

pub(crate) fn name(bytes: &[u8]) -> Cow<'static, str> {
    match registered(bytes) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(printable(bytes)),
    }
}

/// Longest string in a record, as `flow-model` promises.
const STRING_MAX: usize = 1024;

/// Foreign bytes as text: lossy UTF-8 without control characters, at most 1 KiB of them.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(STRING_MAX)];
    // Nearly all are, and a character at a time costs more than reading the head that they are from.
    // Without a way out of the loop it takes many bytes at once.
    let others = bytes.iter().fold(0u8, |others, byte| others | u8::from(!matches!(byte, b' '..=b'~')));
    if others == 0
        && let Ok(text) = str::from_utf8(bytes)
    {
        return text.to_owned();
    }
    let printed = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(bytes).chars().map(printed).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn foreign_bytes_are_shown_without_control_characters() {
        for (bytes, text) in [
            (&b"/items?x=~ y"[..], "/items?x=~ y"),
            (b"/caf\xc3\xa9", "/caf\u{e9}"),
            (b"/\x1b[31m\x7f\xc2\x9b", "/\u{fffd}[31m\u{fffd}\u{fffd}"),
            (b"/\xff", "/\u{fffd}"),
        ] {
            assert_eq!(printable(bytes), text, "{}", bytes.escape_ascii());
        }
        assert_eq!(printable(&[b'a'; 4096]).len(), 1024);
    }
}
