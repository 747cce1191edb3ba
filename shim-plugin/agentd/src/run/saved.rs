//! What was counted, handed from one run of the agent to the next, so that a restart or an upgrade
//! is no reset of any counter.
//!
//! Written once, when everything has been counted, and taken away when it is read: after a kill
//! there is no such file, and counters begin at zero, which a scraper knows how to read. A copy
//! that was written now and then would be older than the last scrape, and counters that fall a
//! little look like a reset to nearly all of their value: counted twice.

use golden_metrics::Saved;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

/// Of the file. 1 did not say by which Service an edge's server is reached; 2 had a list for each
/// protocol. From 3 on all is kept by name: what is newer is read as far as it is understood, and
/// the rest is handed on (`golden_metrics::Saved`).
const FORMAT: u32 = 3;
/// Ten thousand series of each family take 60 MB; what is larger was not written by us.
const MOST_BYTES: u64 = 512 << 20;

#[derive(Debug)]
pub struct State {
    file: PathBuf,
}

/// The directory that systemd made for the unit (`StateDirectory=`, systemd.exec(5)).
#[must_use]
pub fn directory() -> Option<PathBuf> {
    let directories = std::env::var_os("STATE_DIRECTORY")?;
    std::env::split_paths(&directories).next()
}

#[derive(Deserialize)]
struct Kept {
    format: u32,
    counted: Saved,
}

#[derive(Serialize)]
struct Keeping<'a> {
    format: u32,
    counted: &'a Saved,
}

impl State {
    /// Without a directory, nothing is kept.
    #[must_use]
    pub fn from_environment() -> Option<State> {
        Some(State { file: directory()?.join("counters.json") })
    }

    /// What the predecessor left, once.
    pub fn take(&self) -> Option<Saved> {
        match self.read() {
            Ok(saved) => saved,
            Err(error) => {
                let file = self.file.display();
                tracing::warn!(%file, %error, "counters begin at zero: what was kept of them cannot be read");
                None
            }
        }
    }

    fn read(&self) -> io::Result<Option<Saved>> {
        let file = match File::open(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // First away, then used: whoever ends without writing it anew must not leave an old one
        // behind.
        fs::remove_file(&self.file)?;
        if file.metadata()?.len() > MOST_BYTES {
            return Err(io::Error::other("it is larger than any that this program writes"));
        }
        let Kept { format, counted } = serde_json::from_reader(io::BufReader::new(file))?;
        if format == 0 {
            return Err(io::Error::other("its format is 0, which no version wrote"));
        }
        Ok(Some(counted))
    }

    /// For the successor. A failure is told, and the successor begins at zero.
    pub fn keep(&self, counted: &Saved) {
        match self.write(counted) {
            Ok(()) => tracing::info!(series = counted.series(), "counters are kept for the next start"),
            Err(error) => {
                let file = self.file.display();
                tracing::warn!(%file, %error, "counters are not kept: they begin at zero at the next start");
            }
        }
    }

    fn write(&self, counted: &Saved) -> io::Result<()> {
        let part = self.file.with_extension("part");
        let written = (|| {
            let mut out = io::BufWriter::new(File::create(&part)?);
            serde_json::to_writer(&mut out, &Keeping { format: FORMAT, counted })?;
            out.flush()?;
            out.get_ref().sync_data()?;
            fs::rename(&part, &self.file)
        })();
        if written.is_err() {
            // On a full disk, what could be written is of no use.
            let _ = fs::remove_file(&part);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(directory: &tempfile::TempDir) -> State {
        State { file: directory.path().join("counters.json") }
    }

    #[test]
    fn what_is_kept_is_taken_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = state(&directory);
        assert_eq!(state.take(), None);
        state.keep(&Saved::default());
        assert_eq!(state.take(), Some(Saved::default()));
        assert_eq!(state.take(), None, "a crash after the start must not bring it back");
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_set_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = state(&directory);
        let of_no_version = r#"{"format":0,"counted":{"exchanges":{},"lost":{}}}"#;
        for text in ["", "{", "[]", r#"{"format":3,"counted":{}}"#, of_no_version] {
            fs::write(&state.file, text).expect("write");
            assert_eq!(state.take(), None, "{text}");
            assert!(!state.file.exists());
        }
    }

    #[test]
    fn the_file_of_a_later_version_is_read_and_handed_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = state(&directory);
        let counted = r#"{"series":{"graphql":[{"calls":3}]},"exchanges":{"client":{"redis":9}},"lost":{},"expired":0,"losses":[],"more":[1]}"#;
        fs::write(&state.file, format!(r#"{{"format":4,"counted":{counted}}}"#)).expect("write");
        let taken = state.take().expect("read");
        state.keep(&taken);
        let kept = fs::read_to_string(&state.file).expect("kept");
        assert_eq!(kept, format!(r#"{{"format":{FORMAT},"counted":{counted}}}"#));
    }

    #[test]
    fn a_directory_that_is_not_there_stops_nobody() {
        let state = State { file: "/nonexistent/counters.json".into() };
        state.keep(&Saved::default());
        assert_eq!(state.take(), None);
    }
}
