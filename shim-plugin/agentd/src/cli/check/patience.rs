//! A question that may never be answered: a file on a file system that hangs, a pipe that nobody
//! writes to. The other lines do not wait for it.

use super::line::{Line, Verdict};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What `ask` answers, or a line that says that it does not. A thread that hangs is left behind: the
/// process ends beside it.
pub fn within(what: &'static str, patience: Duration, ask: impl FnOnce() -> Vec<Line> + Send + 'static) -> Vec<Line> {
    let (tell, told) = mpsc::channel();
    let asking = thread::Builder::new().name("pf-check".to_owned()).spawn(move || drop(tell.send(ask())));
    let why = match asking {
        Ok(_) => match told.recv_timeout(patience) {
            Ok(lines) => return lines,
            Err(mpsc::RecvTimeoutError::Timeout) => format!("no answer within {patience:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => "the thread that asked has ended without an answer".to_owned(),
        },
        Err(error) => format!("not asked: {error}"),
    };
    vec![Line::new(
        what,
        Verdict::Waits,
        why,
        "does a file that the configuration names hang (a pipe, a network disk)?",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_answers_and_who_ends_without_an_answer_are_told() {
        let fine = || vec![Line::new("x", Verdict::Ok, "fine", "")];
        assert_eq!(within("x", Duration::from_secs(60), fine), fine());
        let (_held, never) = mpsc::channel::<()>();
        let hangs = move || {
            let _ = never.recv();
            Vec::new()
        };
        let told = within("x", Duration::from_millis(10), hangs);
        assert!(
            matches!(&told[..], [line] if line.verdict == Verdict::Waits && line.found == "no answer within 10ms"),
            "{told:?}"
        );
    }
}
