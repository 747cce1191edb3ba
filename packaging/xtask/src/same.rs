//! `cargo xtask same`: one program's `pilotfish replay` beside another's, on the same captures,
//! byte for byte. Shows that a change of the inside changed nothing of what is told.

mod dialogue;
mod made;

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use testbed::{built_binary, signals};

/// What is asked of each capture.
const QUESTIONS: [(&str, &[&str]); 2] = [("json", &["-o", "json", "--records"]), ("metrics", &["-o", "metrics"])];
/// Much of a line that differs fits on a terminal's two.
const SHOWN: usize = 160;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The program to compare with
    #[arg(long, value_name = "BINARY")]
    against: PathBuf,
    /// The program that is compared [default: the one beside this xtask]
    #[arg(long, value_name = "BINARY")]
    build: Option<PathBuf>,
    /// Lines that begin with a line of this file are not compared
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    /// Longest time for one program on one capture
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    limit: u64,
    /// How many captures to make: dialogues of HTTP and DNS, most with packets lost, repeated, reordered or cut
    #[arg(long, default_value_t = 200)]
    made: u32,
    /// Keep the captures that were made in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Captures, and directories whose .pcap, .pcapng and .cap files are taken
    captures: Vec<PathBuf>,
}

/// How one capture came out.
enum Verdict {
    Same,
    Differs(String),
}

#[allow(clippy::print_stdout, reason = "the table is this command's output")]
pub fn run(options: &Options) -> Result<ExitCode> {
    let build = options.build.clone().map_or_else(|| built_binary("pilotfish"), Ok)?;
    let work = std::env::temp_dir().join(format!("pilotfish-same-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let compared = compare_all(options, &build, &work);
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    let (same, different, took) = compared?;
    let mut table = String::new();
    for (file, question, why) in &different {
        let _ = writeln!(table, "{} ({question})\n{why}", file.display());
    }
    let captures = same.files + different.len();
    let _ = writeln!(table, "captures  same  different  of them unread  lines      seconds");
    let _ = writeln!(
        table,
        "{captures:<8}  {:<4}  {:<9}  {:<14}  {:<9}  {:.1}",
        same.files,
        different.len(),
        same.unread,
        same.lines,
        took.as_secs_f64()
    );
    print!("{table}");
    Ok(if different.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Debug, Default)]
struct Same {
    files: usize,
    /// That both programs refused, in the same words.
    unread: usize,
    lines: usize,
}

type Different = Vec<(PathBuf, &'static str, String)>;

fn compare_all(options: &Options, build: &Path, work: &Path) -> Result<(Same, Different, Duration)> {
    let allowed = match &options.allow {
        Some(file) => fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?,
        None => String::new(),
    };
    let allowed: Vec<&str> = allowed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let made_in = options.keep.clone().unwrap_or_else(|| work.join("made"));
    let mut captures = made::write(&made_in, options.made)?;
    for given in &options.captures {
        find(given, &mut captures)?;
    }
    ensure!(!captures.is_empty(), "there is nothing to compare");
    let limit = Duration::from_secs(options.limit);
    let begun = Instant::now();
    let (mut same, mut different) = (Same::default(), Vec::new());
    'captures: for capture in captures {
        same.files += 1;
        for (question, args) in QUESTIONS {
            ensure!(!signals::interrupted(), "interrupted");
            let [old, new] = [(&options.against, "old"), (&build.to_owned(), "new")]
                .map(|(program, name)| Answer::of(program, &capture, args, &work.join(name), limit));
            let (old, new) = (old?, new?);
            match old.beside(&new, &allowed, &mut same.lines)? {
                Verdict::Same => same.unread += usize::from(question == "json" && old.end != "exit status: 0"),
                Verdict::Differs(why) => {
                    same.files -= 1;
                    different.push((capture, question, why));
                    continue 'captures;
                }
            }
        }
    }
    Ok((same, different, begun.elapsed()))
}

/// A file as it is; of a directory what looks like a capture, in order.
fn find(given: &Path, captures: &mut Vec<PathBuf>) -> Result<()> {
    if !given.is_dir() {
        captures.push(given.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(given).with_context(|| format!("read {}", given.display()))?;
    let mut found = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    found.sort();
    for path in found {
        let is_capture =
            path.extension().is_some_and(|end| ["pcap", "pcapng", "cap"].iter().any(|known| end == *known));
        if path.is_dir() || is_capture {
            find(&path, captures)?;
        }
    }
    Ok(())
}

/// What a program made of a capture.
struct Answer {
    /// As `ExitStatus` is printed, or that it took too long.
    end: String,
    /// Standard output, which may be larger than memory.
    out: PathBuf,
    errors: String,
}

impl Answer {
    fn of(program: &Path, capture: &Path, args: &[&str], out: &Path, limit: Duration) -> Result<Answer> {
        let errors = out.with_extension("errors");
        let mut child = Command::new(program)
            .arg("replay")
            .arg(capture)
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(out)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let deadline = Instant::now() + limit;
        let end = loop {
            if let Some(status) = child.try_wait()? {
                break status.to_string();
            }
            if Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                break format!("not done within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let errors = String::from_utf8_lossy(&fs::read(&errors)?).into_owned();
        Ok(Answer { end, out: out.to_owned(), errors })
    }

    /// Exit code, messages and every line.
    fn beside(&self, new: &Answer, allowed: &[&str], lines: &mut usize) -> Result<Verdict> {
        if self.end != new.end || self.errors != new.errors {
            let shown = |answer: &Answer| format!("{} {}", answer.end, answer.errors.trim());
            return Ok(Verdict::Differs(pair(&shown(self), &shown(new))));
        }
        let mut number = 0;
        let (mut old_lines, mut new_lines) = (lines_of(&self.out)?, lines_of(&new.out)?);
        loop {
            number += 1;
            match (next(&mut old_lines, allowed)?, next(&mut new_lines, allowed)?) {
                (None, None) => return Ok(Verdict::Same),
                (old, new) if old == new => *lines += 1,
                (old, new) => {
                    let shown = |line: Option<Vec<u8>>| {
                        line.map_or_else(|| "(end)".to_owned(), |line| String::from_utf8_lossy(&line).into_owned())
                    };
                    return Ok(Verdict::Differs(format!("  line {number}\n{}", pair(&shown(old), &shown(new)))));
                }
            }
        }
    }
}

type Lines = std::io::Split<BufReader<File>>;

fn lines_of(file: &Path) -> Result<Lines> {
    Ok(BufReader::new(File::open(file)?).split(b'\n'))
}

/// The next line that is to be compared.
fn next(lines: &mut Lines, allowed: &[&str]) -> Result<Option<Vec<u8>>> {
    for line in lines {
        let line = line?;
        if !allowed.iter().any(|prefix| line.starts_with(prefix.as_bytes())) {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

/// Two texts under each other, from a little before where they part.
fn pair(old: &str, new: &str) -> String {
    let common = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    let shown = |text: &str| -> String { text.chars().skip(common.saturating_sub(SHOWN / 2)).take(SHOWN).collect() };
    format!("  - {}\n  + {}", shown(old), shown(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(old: &str, new: &str, allowed: &[&str]) -> Option<String> {
        let dir =
            std::env::temp_dir().join(format!("same-test-{}-{}", std::process::id(), old.len() * 1000 + new.len()));
        fs::create_dir_all(&dir).expect("a directory");
        let answer = |name: &str, text: &str| {
            fs::write(dir.join(name), text).expect("write");
            Answer { end: "exit status: 0".into(), out: dir.join(name), errors: String::new() }
        };
        let (old, new) = (answer("old", old), answer("new", new));
        let verdict = old.beside(&new, allowed, &mut 0).expect("files are read");
        fs::remove_dir_all(&dir).expect("remove");
        match verdict {
            Verdict::Same => None,
            Verdict::Differs(why) => Some(why),
        }
    }

    #[test]
    fn one_byte_is_a_difference_and_is_shown_with_its_line() {
        assert_eq!(compared("a\nb\n", "a\nb\n", &[]), None);
        assert_eq!(compared("a\nbc\n", "a\nbd\n", &[]).as_deref(), Some("  line 2\n  - bc\n  + bd"));
        assert_eq!(compared("a\n", "a\nb\n", &[]).as_deref(), Some("  line 2\n  - (end)\n  + b"));
    }

    #[test]
    fn lines_that_are_allowed_are_not_compared() {
        assert_eq!(compared("a\nnew 1\nb\n", "new 2\na\nb\n", &["new "]), None);
        assert!(compared("a\n", "a\nnewer\n", &["new "]).is_some());
    }

    #[test]
    fn a_long_line_is_shown_where_it_differs() {
        let (old, new) = ("x".repeat(1000) + "old", "x".repeat(1000) + "new");
        assert_eq!(pair(&old, &new), format!("  - {0}old\n  + {0}new", "x".repeat(80)));
    }
}
