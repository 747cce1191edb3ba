//! The page, as `web/build.mjs` bundles it. The bundle is committed, so a build needs no Node.

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its content.
    pub content: &'static [u8],
}

/// What the page may do: run its one script, show its one style and its mark, ask where it came from.
/// No text becomes markup or a script, whatever it says.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// A file by its name.
#[must_use]
pub fn asset(name: &str) -> Option<Asset> {
    let (content_type, content): (_, &'static [u8]) = match name {
        "index.html" => ("text/html; charset=utf-8", include_bytes!("../../web/dist/index.html")),
        "map.js" => ("text/javascript; charset=utf-8", include_bytes!("../../web/dist/map.js")),
        "map.css" => ("text/css; charset=utf-8", include_bytes!("../../web/dist/map.css")),
        "map.svg" => ("image/svg+xml", include_bytes!("../../web/dist/map.svg")),
        _ => return None,
    };
    Some(Asset { content_type, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> &'static str {
        std::str::from_utf8(asset(name).expect(name).content).expect(name)
    }

    #[test]
    fn the_page_asks_nobody_else_and_has_no_script_or_style_within() {
        let page = text("index.html");
        for outside in ["http://", "https://", "//", "<style", "style=", "onclick", "onload", "javascript:"] {
            assert!(!page.contains(outside), "{outside}");
        }
        // One script, by a path that works under any prefix.
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("<script type=\"module\" src=\"map.js\"></script>"));
        for (name, words) in [
            ("map.js", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]),
            ("map.css", ["http://", "https://", "@import", "url(", "expression(", "-moz-binding"]),
        ] {
            for word in words {
                assert!(!text(name).contains(word), "{name}: {word}");
            }
        }
        assert!(!text("map.js").contains("https://"));
    }

    #[test]
    fn the_bundle_is_small() {
        let all: usize = ["index.html", "map.js", "map.css", "map.svg"]
            .iter()
            .filter_map(|name| asset(name))
            .map(|a| a.content.len())
            .sum();
        assert!(all < 100 << 10, "{all} bytes");
    }
}
