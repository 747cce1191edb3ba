//! The page of the service map is committed as it is bundled. It is to be what its sources say, also
//! where there is no Node to bundle them: the bundle brings the digests of what it was made of.
#![forbid(unsafe_code)]

use ring::digest::{SHA256, digest};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn the_bundle_is_what_its_sources_say() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let told = std::fs::read_to_string(web.join("dist/sources.sha256")).unwrap();
    let mut known = BTreeSet::new();
    for line in told.lines() {
        let (expected, name) = line.split_once("  ").unwrap();
        let content = std::fs::read(web.join(name)).unwrap();
        let found = hex(digest(&SHA256, &content).as_ref());
        assert_eq!(found, expected, "{name} has changed since: cd k8s-sync/companion/web && npm ci && npm run build");
        known.insert(name.to_owned());
    }
    for entry in std::fs::read_dir(web.join("src")).unwrap() {
        let name = format!("src/{}", entry.unwrap().file_name().to_string_lossy());
        assert!(known.contains(&name), "{name} is in no bundle: npm run build");
    }
}
