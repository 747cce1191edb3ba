//! `pilotfish top`: what is asked for most, most slowly or in vain, from the tap's stream.

mod page;
mod table;

use super::output::{json, write};
use crate::cli::args::{Output, TopArgs};
use crate::cli::tap;
use crate::exit::Failure;
use agent_api::{Heard, TapEnd, TapLine};
use page::Picture;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use table::Operations;
use terminal_size::{Height, Width, terminal_size_of};

/// Shown where no terminal says how much it has room for.
const ROWS: usize = 20;
/// More pictures than this are no help to anybody.
const FASTEST: Duration = Duration::from_millis(100);

/// Shows the operations again and again, until interrupted or as often as was asked.
pub fn run(socket: &Path, args: &TopArgs) -> Result<(), Failure> {
    let mut lines = tap::open(socket, &args.wanted.parameters())?;
    let every = args.every.max(FASTEST);
    let mut operations = Operations::default();
    let (mut left, mut due) = (args.times, Instant::now() + every);
    if std::io::stdout().is_terminal() && !show(args, &operations)? {
        return Ok(());
    }
    while left != Some(0) {
        let heard = lines.next(Some(due.saturating_duration_since(Instant::now())))?;
        let end = match &heard {
            Heard::Line(line) => match tap::read(socket, line)? {
                TapLine::Exchange(exchange) => {
                    operations.exchange(*exchange);
                    None
                }
                TapLine::Lost(loss) => {
                    operations.lost(loss);
                    None
                }
                TapLine::End(TapEnd { reason }) => Some(tap::ended(socket, &reason)),
                TapLine::Other => None,
            },
            Heard::Quiet => None,
            Heard::End => Some(Err(tap::gone(socket))),
        };
        if let Some(end) = end {
            show(args, &operations)?;
            return end;
        }
        if Instant::now() >= due {
            due = Instant::now() + every;
            left = left.map(|left| left.saturating_sub(1));
            if !show(args, &operations)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether anybody still looks.
fn show(args: &TopArgs, operations: &Operations) -> Result<bool, Failure> {
    let out = std::io::stdout();
    let screen = out.is_terminal().then(|| terminal_size_of(&out)).flatten();
    // Above the rows stand two lines, and one is left for the cursor.
    let room = screen.map_or(ROWS, |(_, Height(height))| usize::from(height).saturating_sub(3));
    let picture = Picture::of(operations, args.sort, args.rows.map_or(room, usize::from).max(1), SystemTime::now());
    if args.output == Output::Json {
        let text = json(&picture)?;
        // What is within a string has no line end of its own in JSON.
        return write(&(text.lines().map(str::trim_start).collect::<String>() + "\n"));
    }
    let text = picture.page();
    match (out.is_terminal(), screen) {
        (true, screen) => write(&page::on_screen(&text, screen.map(|(Width(width), _)| width.into()))),
        (false, _) => write(&(text + "\n")),
    }
}
