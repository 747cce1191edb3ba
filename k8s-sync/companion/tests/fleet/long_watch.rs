//! `kubectl get --watch` for as long as somebody leaves it open. By command:
//! `cargo test -p companion --test fleet -- --ignored --nocapture ten_minutes`.

use crate::kubectl::Bed;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use testbed::cluster::User;

const LENGTH: Duration = Duration::from_secs(600);
/// Figures change with each push, a second apart in this test; a busy machine is late.
const SILENCE: Duration = Duration::from_secs(20);

#[test]
#[ignore = "measures: ten minutes of a watch"]
fn a_watch_of_ten_minutes_goes_on_to_the_last() -> Result<()> {
    let bed = Bed::new()?;
    let mut kubectl = bed.command(User::Admin, &["get", "wt", "-n", "shop", "-w"])?.spawn()?;
    let (out, mut complaints) = (kubectl.stdout.take().context("stdout")?, kubectl.stderr.take().context("stderr")?);
    let (told, lines) = mpsc::channel();
    std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    let (began, mut count, mut heads, mut longest) = (Instant::now(), 0, 0, Duration::ZERO);
    let watched = (|| -> Result<()> {
        while began.elapsed() < LENGTH {
            let asked = Instant::now();
            let line = lines.recv_timeout(SILENCE).with_context(|| format!("silent after {:?}", began.elapsed()))?;
            longest = longest.max(asked.elapsed());
            count += 1;
            heads += u32::from(line.starts_with("NAME"));
            ensure!(line.starts_with("NAME") || line.starts_with("api"), "{line}");
        }
        ensure!(kubectl.try_wait()?.is_none(), "kubectl ended");
        Ok(())
    })();
    let _ = kubectl.kill();
    kubectl.wait()?;
    let mut complaint = String::new();
    complaints.read_to_string(&mut complaint)?;
    watched.with_context(|| complaint.clone())?;
    eprintln!("{count} lines in {:?}, the longest silence {longest:?}", began.elapsed());
    ensure!(heads == 1 && complaint.is_empty(), "{heads} heads; {complaint}");
    Ok(())
}
