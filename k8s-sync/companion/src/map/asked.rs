//! What a request asks for, by its path.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A file of the page, by its name.
    File(&'static str),
    /// The map's figures.
    Map,
    /// One edge, by the number that the map gave it.
    Edge(u64),
}

impl Asked {
    /// `None`: nothing is there.
    #[must_use]
    pub fn read(path: &str) -> Option<Asked> {
        match path {
            "/" | "/index.html" => Some(Asked::File("index.html")),
            "/map.js" => Some(Asked::File("map.js")),
            "/map.css" => Some(Asked::File("map.css")),
            "/map.svg" => Some(Asked::File("map.svg")),
            "/api/map" => Some(Asked::Map),
            path => {
                let id = path.strip_prefix("/api/edge/").filter(|id| id.len() == 16)?;
                let is_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                is_hex.then(|| u64::from_str_radix(id, 16).ok().map(Asked::Edge))?
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_what_is_there_and_to_nothing_else() {
        assert_eq!(Asked::read("/"), Some(Asked::File("index.html")));
        assert_eq!(Asked::read("/api/map"), Some(Asked::Map));
        assert_eq!(Asked::read("/api/edge/00000000000000ff"), Some(Asked::Edge(255)));
        for path in [
            "",
            "//",
            "/map",
            "/../map.js",
            "/%2e%2e/map.js",
            "/api",
            "/api/edge/",
            "/api/edge/ff",
            "/api/edge/00000000000000FF",
            "/api/edge/+0000000000000ff",
            "/api/edge/00000000000000ff/",
            "/metrics",
        ] {
            assert_eq!(Asked::read(path), None, "{path}");
        }
    }
}
