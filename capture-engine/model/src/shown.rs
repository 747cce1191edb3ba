//! Words of others as people see them.

use std::borrow::Cow;

/// The text on one line, without characters that a terminal obeys, that turn the direction of
/// writing, or that nobody sees: a name of an interface, a container or a host may hold them, since
/// whoever made it chose it. Each is written as Rust would (`\u{1b}`, `\n`). Everything that is shown
/// to people goes through here: tables, status, log.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    Cow::Owned(out)
}

/// Whether a reader sees this character as what it is.
#[must_use]
pub fn is_plain(c: char) -> bool {
    // Quotes and backslashes are escaped in code, not for people.
    matches!(c, ' '..='~') || c.escape_debug().nth(1).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_nobody_sees_is_written_out() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected, "{text:?}");
        check("\x1b[2J\x1b]0;title\x07", r"\u{1b}[2J\u{1b}]0;title\u{7}");
        check("a\nready: all is well\r\tb", r"a\nready: all is well\r\tb");
        check("eth0\u{202e}gpj.exe\u{2066}\u{200b}", r"eth0\u{202e}gpj.exe\u{2066}\u{200b}");
        check("\u{9b}31m \u{7f} \u{85} \u{2028} \u{ad} \u{feff}", r"\u{9b}31m \u{7f} \u{85} \u{2028} \u{ad} \u{feff}");
        check("\0\u{e0041}\u{fffe}", r"\0\u{e0041}\u{fffe}");
    }

    #[test]
    fn names_stay_as_they_are() {
        for name in ["", "kube-system/web-0", "it's \"quoted\" \\ here", "münchen.example", "网关", "пример", "café ☕"]
        {
            assert!(matches!(shown(name), Cow::Borrowed(same) if same == name), "{name}");
        }
    }

    #[test]
    fn whatever_is_shown_is_plain_and_shown_again_as_it_is() {
        for c in (0..=char::MAX as u32).filter_map(char::from_u32) {
            let text = c.to_string();
            let once = shown(&text).into_owned();
            assert!(!once.chars().any(char::is_control) && once.chars().all(is_plain), "{c:?}");
            assert_eq!(shown(&once), once);
        }
    }
}
