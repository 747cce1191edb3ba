//! The timeline on disk, handed from one run of the agent to the next. Written when an agent ends,
//! and taken away when it is read: after a kill the history begins anew.

use super::totals::CutRecord;
use agent_api::TimelineEvent;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Fields are added and never change their meaning; what is not known is passed over.
const FORMAT: u32 = 1;
/// JSON takes about twice the room of what it says.
const MOST_BYTES: u64 = 16 << 20;

/// What is handed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    pub(super) format: u32,
    /// Until when it was looked.
    pub until_ms: u64,
    /// From when on everything is here.
    pub from_ms: u64,
    /// Times in between in which nobody looked.
    pub blind_ms: Vec<(u64, u64)>,
    /// Oldest first.
    pub events: Vec<TimelineEvent>,
    /// What was counted as cut.
    pub cut: Vec<CutRecord>,
}

#[derive(Debug)]
pub struct TimelineFile(PathBuf);

impl TimelineFile {
    #[must_use]
    pub fn within(directory: &Path) -> TimelineFile {
        TimelineFile(directory.join("timeline.json"))
    }

    /// What the predecessor left, once.
    pub fn take(&self) -> Option<Kept> {
        match self.read() {
            Ok(kept) => kept,
            Err(error) => {
                let file = self.0.display();
                tracing::warn!(%file, %error, "the timeline begins anew: what was kept of it cannot be read");
                None
            }
        }
    }

    fn read(&self) -> io::Result<Option<Kept>> {
        let file = match File::open(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // As with the counters: first away, then used.
        fs::remove_file(&self.0)?;
        if file.metadata()?.len() > MOST_BYTES {
            return Err(io::Error::other("it is larger than any that this program writes"));
        }
        let mut kept: Kept = serde_json::from_reader(io::BufReader::new(file))?;
        if kept.format == 0 {
            return Err(io::Error::other("its format is 0, which no version wrote"));
        }
        // They are found by their numbers.
        kept.events.sort_by_key(|event| event.seq);
        kept.events.dedup_by_key(|event| event.seq);
        Ok(Some(kept))
    }

    /// For the successor. A failure is told, and the successor begins anew.
    pub fn keep(&self, kept: Kept) {
        if let Err(error) = self.write(&Kept { format: FORMAT, ..kept }) {
            let file = self.0.display();
            tracing::warn!(%file, %error, "the timeline is not kept: it begins anew at the next start");
        }
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let part = self.0.with_extension("part");
        let written = (|| {
            let mut out = io::BufWriter::new(File::create(&part)?);
            serde_json::to_writer(&mut out, kept)?;
            out.flush()?;
            out.get_ref().sync_data()?;
            fs::rename(&part, &self.0)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, TimelineFile) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = TimelineFile::within(directory.path());
        (directory, file)
    }

    #[test]
    fn what_is_kept_is_taken_once() {
        let (directory, file) = file();
        assert_eq!(file.take(), None);
        let event = |seq| TimelineEvent { seq, workload: "api".into(), ..TimelineEvent::default() };
        let kept = Kept { from_ms: 5, until_ms: 9, events: vec![event(2), event(3)], ..Kept::default() };
        file.keep(kept.clone());
        assert_eq!(file.take(), Some(Kept { format: FORMAT, ..kept }));
        assert_eq!(file.take(), None);
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0);
    }

    #[test]
    fn the_file_of_a_later_version_is_read_as_far_as_it_is_understood() {
        let (_directory, file) = file();
        let event = r#"{"seq":7,"event":"frozen","workload":"api","colour":"red"}"#;
        let more = r#"{"seq":3,"event":"exit"},{"seq":7}"#;
        fs::write(&file.0, format!(r#"{{"format":9,"events":[{event},{more}],"probes":[1]}}"#)).expect("write");
        let kept = file.take().expect("read");
        let told: Vec<_> = kept.events.iter().map(|event| (event.seq, event.event.as_str())).collect();
        assert_eq!(told, [(3, "exit"), (7, "frozen")], "in their order, each number once");
    }

    #[test]
    fn a_damaged_or_foreign_file_is_set_aside() {
        let (_directory, file) = file();
        for text in ["", "{", "[]", "7", r#"{"format":0}"#, r#"{"format":1,"events":[7]}"#] {
            fs::write(&file.0, text).expect("write");
            assert_eq!(file.take(), None, "{text}");
            assert!(!file.0.exists());
        }
        let nowhere = TimelineFile::within(Path::new("/nonexistent"));
        nowhere.keep(Kept::default());
        assert_eq!(nowhere.take(), None);
    }
}
