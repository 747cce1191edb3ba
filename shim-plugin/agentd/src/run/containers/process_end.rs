//! Whether a process is still the one that it was: a pid is reused, a pid with its start time is
//! not.

use nix::errno::Errno;
use std::fs;
use std::io::ErrorKind;

/// Start time of this process in clock ticks since boot. None where that cannot be told.
#[must_use]
pub fn began(pid: u32) -> Option<u64> {
    Stat::parse(&fs::read_to_string(path(pid)).ok()?).map(|stat| stat.began)
}

/// The process that began then has ended; without a time, any that has this pid.
///
/// # Errors
/// It cannot be told.
pub fn is_gone(pid: u32, began: Option<u64>) -> Result<bool, String> {
    match fs::read_to_string(path(pid)) {
        Ok(text) => match Stat::parse(&text) {
            Some(stat) => Ok(stat.is_over() || began.is_some_and(|began| began != stat.began)),
            None => Err(format!("{} makes no sense", path(pid))),
        },
        // The second comes where it ended between the opening and the read.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32) => {
            Ok(true)
        }
        Err(error) => Err(error.to_string()),
    }
}

#[must_use]
pub fn path(pid: u32) -> String {
    format!("/proc/{pid}/stat")
}

/// Three fields of proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    threads: u64,
    began: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name may hold anything, brackets and blanks too; nothing behind it holds a bracket.
        let (_, behind) = text.rsplit_once(')')?;
        let mut fields = behind.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let threads = fields.nth(16)?.parse().ok()?;
        let began = fields.nth(1)?.parse().ok()?;
        Some(Stat { state, threads, began })
    }

    /// Dead, or a zombie; the first thread of a process can be one while others run.
    fn is_over(&self) -> bool {
        matches!(self.state, 'X' | 'x') || self.state == 'Z' && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_itself_until_it_ends_and_another_that_took_its_pid_is_not() {
        let own = std::process::id();
        let began_then = began(own);
        assert!(began_then.is_some());
        assert_eq!(is_gone(own, began_then), Ok(false));
        assert_eq!(is_gone(own, began_then.map(|then| then - 1)), Ok(true), "another had this pid");
        assert_eq!(is_gone(own, None), Ok(false));

        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep starts");
        let then = began(child.id());
        assert_eq!(is_gone(child.id(), then), Ok(false));
        child.kill().expect("ours");
        while is_gone(child.id(), then) != Ok(true) {
            std::thread::yield_now();
        }
        child.wait().expect("ours");
        assert_eq!((is_gone(child.id(), then), began(child.id())), (Ok(true), None));
    }

    #[test]
    fn the_name_of_a_process_is_no_field_and_a_zombie_with_threads_lives() {
        let line = |name: &str, state: char, threads: u32| {
            format!("42 ({name}) {state} 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {threads} 0 9876 1 2 3\n")
        };
        for name in ["sleep", "a) R 1 (b", "", "\u{fffd} ) Z"] {
            let stat = Stat::parse(&line(name, 'S', 3));
            assert_eq!(stat, Some(Stat { state: 'S', threads: 3, began: 9876 }), "{name}");
        }
        let over = |state, threads| Stat::parse(&line("x", state, threads)).expect("a line").is_over();
        assert!(over('Z', 1) && over('Z', 0) && over('X', 4) && !over('Z', 2) && !over('D', 1));
        assert_eq!(Stat::parse("42 (x) S 1"), None);
    }
}
