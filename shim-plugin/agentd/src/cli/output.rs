//! What the commands that ask the agent share: printing, and doing it again.

use crate::exit::{Exit, Failure};
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

/// Linkerd's `--watch` period.
const AGAIN: Duration = Duration::from_secs(2);

/// Prints to standard output; a reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    write(text).map(|_| ())
}

/// Whether anybody still reads.
fn write(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::Software, error)),
    }
}

/// # Errors
/// When the value has no JSON form: never for ours.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Software, error))?;
    text.push('\n');
    Ok(text)
}

/// Prints what `page` makes: once, or again and again, each time on a cleared screen where there is one.
pub fn show(watch: bool, mut page: impl FnMut() -> Result<String, Failure>) -> Result<(), Failure> {
    if !watch {
        return print(&page()?);
    }
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    while write(&format!("{clear}{}", page()?))? {
        std::thread::sleep(AGAIN);
    }
    Ok(())
}
