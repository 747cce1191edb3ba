//! Runs that are killed, for the tests of the sweep.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;
use testbed::until_some;

const NOTE: &str = "PFT_NOTE";
/// Last line of a note.
const END: &str = "end";

/// Where this process is to write its note, when it is the run that will be killed.
pub fn note() -> Option<OsString> {
    std::env::var_os(NOTE)
}

/// Makes what the run has made known to the test that kills it.
pub fn tell(note: &OsString, lines: &[String]) -> std::io::Result<()> {
    std::fs::write(note, lines.join("\n") + "\n" + END)
}

/// Starts this test binary's `run_that_will_be_killed`, kills it once it has told its lines, and returns them.
pub fn killed_run(what: &str, patience: Duration) -> anyhow::Result<Vec<String>> {
    let note = tempfile::NamedTempFile::new()?;
    let mut run = Command::new(std::env::current_exe()?)
        .args(["--exact", "run_that_will_be_killed"])
        .env(NOTE, note.path())
        .stdout(Stdio::null())
        .spawn()?;
    let text = until_some(what, patience, || {
        let text = std::fs::read_to_string(note.path()).ok()?;
        Some(text.strip_suffix(END)?.strip_suffix('\n')?.to_owned())
    });
    run.kill()?;
    run.wait()?;
    Ok(text?.lines().map(str::to_owned).collect())
}
