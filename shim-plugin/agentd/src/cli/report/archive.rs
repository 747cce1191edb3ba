//! The archive: a manifest, then the parts that could be had, as a tar in gzip.

use super::part::{Cut, Part};
use flate2::Compression;
use flate2::write::GzEncoder;
use flow_model::rfc3339;
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};
use tar::{Builder, Header};

/// The folder that it unpacks to.
const FOLDER: &str = "pilotfish-report";
/// No reader of it has more rights than its writer.
const FILE_MODE: u32 = 0o600;

/// What the report says of itself; its first file.
#[derive(Debug, Serialize)]
struct Manifest<'a> {
    schema: &'static str,
    at: String,
    version: &'a str,
    /// Names were replaced.
    masked: bool,
    parts: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    file: &'a str,
    /// whole, cut, missing
    state: &'static str,
    bytes: usize,
    /// Missing at its end (of a log, at its beginning); null where nobody knows.
    cut_bytes: Option<usize>,
    /// Why it is missing, or what was said beside it.
    detail: &'a str,
    took_ms: u64,
}

/// When, by whom and how a report was made.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub at: SystemTime,
    pub version: &'a str,
    pub masked: bool,
}

/// An archive of `most` bytes at the most. While it is larger, the part that takes most of it loses
/// half.
///
/// # Errors
/// Writing to memory fails: never.
pub fn fitting(about: About<'_>, parts: &mut [Part], most: usize) -> io::Result<Vec<u8>> {
    loop {
        let archive = archive(about, parts)?;
        if archive.len() <= most {
            return Ok(archive);
        }
        let packed = parts.iter().map(packed).collect::<io::Result<Vec<usize>>>()?;
        let Some((_, largest)) = packed.into_iter().zip(parts.iter_mut()).max_by_key(|(bytes, _)| *bytes) else {
            return Ok(archive);
        };
        if largest.bytes() == 0 {
            return Ok(archive);
        }
        largest.shorten(largest.bytes() / 2);
    }
}

fn packed(part: &Part) -> io::Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(part.content.as_deref().unwrap_or_default().as_bytes())?;
    Ok(encoder.finish()?.len())
}

fn archive(about: About<'_>, parts: &[Part]) -> io::Result<Vec<u8>> {
    let About { at, version, masked } = about;
    let manifest = Manifest {
        schema: "pilotfish.report/1",
        at: rfc3339(at),
        version,
        masked,
        parts: parts.iter().map(entry).collect(),
    };
    let manifest = serde_json::to_string_pretty(&manifest).map_err(io::Error::other)? + "\n";
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut add = |file: &str, content: &str| {
        let mut header = Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(FILE_MODE);
        header.set_mtime(seconds);
        tar.append_data(&mut header, format!("{FOLDER}/{file}"), content.as_bytes())
    };
    add("manifest.json", &manifest)?;
    for part in parts {
        if let Some(content) = &part.content {
            add(part.file, content)?;
        }
    }
    tar.into_inner()?.finish()
}

fn entry(part: &Part) -> Entry<'_> {
    let Part { file, form: _, content, cut, detail, took } = part;
    let (state, cut_bytes) = match (content, cut) {
        (None, _) => ("missing", None),
        (Some(_), Cut::Nothing) => ("whole", Some(0)),
        (Some(_), Cut::Bytes(bytes)) => ("cut", Some(*bytes)),
        (Some(_), Cut::Unknown) => ("cut", None),
    };
    Entry { file, state, bytes: part.bytes(), cut_bytes, detail, took_ms: millis(*took) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::part::Form;
    use super::*;
    use flate2::read::GzDecoder;
    use std::collections::BTreeMap;
    use std::io::Read;

    const ABOUT: About<'_> = About { at: SystemTime::UNIX_EPOCH, version: "0.0.0", masked: false };

    fn unpacked(archive: &[u8]) -> BTreeMap<String, String> {
        let mut tar = tar::Archive::new(GzDecoder::new(archive));
        let entries = tar.entries().expect("an archive");
        let read = |entry: io::Result<tar::Entry<'_, GzDecoder<&[u8]>>>| {
            let mut entry = entry.expect("an entry");
            assert_eq!(entry.header().mode().expect("mode"), FILE_MODE);
            let path = entry.path().expect("path").display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            (path, text)
        };
        entries.map(read).collect()
    }

    /// Lines that hardly pack.
    fn noise(bytes: usize) -> String {
        let mut state = 1_u64;
        let mut line = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{state:016x}\n")
        };
        std::iter::repeat_with(&mut line).take(bytes / 17).collect()
    }

    #[test]
    fn the_manifest_tells_of_what_is_there_cut_and_missing() {
        let mut cut = Part::whole("metrics.txt", Form::Metrics, "a 1\nb 2\n".into());
        cut.shorten(5);
        let mut parts = [
            Part::whole("status.json", Form::Json, "{}\n".into()),
            cut,
            Part::missing("log.jsonl", Form::JsonLines, "journalctl is not there"),
        ];
        let files = unpacked(&fitting(ABOUT, &mut parts, 1 << 20).expect("archive"));
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["manifest.json", "metrics.txt", "status.json"].map(|name| format!("{FOLDER}/{name}")));
        let manifest: serde_json::Value =
            serde_json::from_str(&files[&format!("{FOLDER}/manifest.json")]).expect("JSON");
        assert_eq!((&manifest["schema"], &manifest["masked"]), (&"pilotfish.report/1".into(), &false.into()));
        let states: Vec<String> = manifest["parts"]
            .as_array()
            .expect("parts")
            .iter()
            .map(|part| format!("{} {} {} {}", part["file"], part["state"], part["bytes"], part["cut_bytes"]))
            .collect();
        assert_eq!(
            states,
            [r#""status.json" "whole" 3 0"#, r#""metrics.txt" "cut" 4 4"#, r#""log.jsonl" "missing" 0 null"#]
        );
        assert_eq!(manifest["parts"][2]["detail"], "journalctl is not there");
    }

    #[test]
    fn what_does_not_fit_is_cut_where_it_is_largest() {
        let mut parts = [
            Part::whole("a", Form::Text, noise(400_000)),
            Part::whole("b", Form::Text, "b\n".repeat(500_000)),
            Part::whole("c", Form::Text, noise(4_000)),
        ];
        let archive = fitting(ABOUT, &mut parts, 60_000).expect("archive");
        assert!(archive.len() <= 60_000, "{}", archive.len());
        assert!(matches!(parts[0].cut, Cut::Bytes(200_000..)), "{:?}", parts[0].cut);
        assert_eq!((parts[1].cut, parts[2].cut), (Cut::Nothing, Cut::Nothing));
        let files = unpacked(&archive);
        assert_eq!(files[&format!("{FOLDER}/a")].len(), parts[0].bytes());
    }
}
