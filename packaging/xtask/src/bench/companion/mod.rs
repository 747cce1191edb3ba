//! One companion and the streams of many agents: the real process, with its names from a real API
//! server, and the agents' own code for streams, series, credentials and names, so many times in one
//! other process (the example `many_agents` of the companion's crate).
//!
//! CPU is the scheduler's count of the companion's process; bytes are those of its sockets, TLS
//! included (`ss -i`). Each agent has 300 series that all change with each push, and a credential of
//! its own; the pods are written straight into etcd. What agents do with names is done up to the copy
//! that is compared: the table that they make of them is `bench k8s large`.

mod bed;
mod crowd;
mod options;

pub use options::Options;

use crate::bench::goals::Goals;
use crate::bench::say;
use crate::bench::wait::pass;
use anyhow::{Result, ensure};
use bed::{Bed, Sample};
use clap::ValueEnum;
use crowd::{Crowd, Status};
use options::Phase;
use std::time::{Duration, Instant};
use testbed::signals;

/// Names for all take minutes at the companion's bound on bytes a second.
const PATIENCE: Duration = Duration::from_secs(900);
/// How far they are is said as often.
const TELL: Duration = Duration::from_secs(30);
/// After all are there: what began with them is over, and each has pushed twice.
const SETTLE: Duration = Duration::from_secs(25);
/// The page of so many agents is read; with more it is gigabytes.
const PAGE: u32 = 1_000;
const MIB: f64 = (1 << 20) as f64;

pub fn run(options: &Options) -> Result<()> {
    bed::raise_descriptors()?;
    let mut bed = Bed::start(options.agents, options.pods)?;
    let mut crowd = Crowd::start(&bed.join_file()?, options)?;
    let mut goals = Goals::new("companion");
    bed.tell_alone(&goals)?;
    let all = options.agents;
    for phase in Phase::value_variants().iter().filter(|phase| options.phases.contains(phase)) {
        match phase {
            Phase::Few => {
                let few = all.min(50);
                join(&mut crowd, few, named(few, options))?;
                restarted(&mut bed, &mut crowd, &mut goals, few, options, Some(15.0))?;
            }
            Phase::Tenth => {
                let tenth = (all / 10).max(1);
                join(&mut crowd, tenth, named(tenth, options))?;
                steady(&bed, &mut crowd, &mut goals, tenth, options)?;
            }
            Phase::All => {
                at_once(&bed, &mut crowd, &goals, options)?;
                steady(&bed, &mut crowd, &mut goals, all, options)?;
            }
            Phase::Killed => {
                join(&mut crowd, all, named(all, options))?;
                restarted(&mut bed, &mut crowd, &mut goals, all, options, None)?;
            }
        }
    }
    bed.is_whole(&mut goals)?;
    goals.finish()
}

/// Of so many agents these take names.
fn named(count: u32, options: &Options) -> u32 {
    count.min(options.named)
}

/// So many agents run, push, and have names if they are among the first `named`.
fn join(crowd: &mut Crowd, count: u32, named: u32) -> Result<(Duration, Duration)> {
    let began = Instant::now();
    crowd.name(named)?;
    crowd.set(count)?;
    let took = joined(crowd, count, named, began)?;
    say(&format!("companion: {count} agents have joined after {}, {named} with names", seconds(took.1)));
    Ok(took)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Until each has pushed, and each that is to have names has all. How long since `began` each took.
fn joined(crowd: &mut Crowd, count: u32, named: u32, began: Instant) -> Result<(Duration, Duration)> {
    let (mut held, wanted, named) = (None, u64::from(count), u64::from(named));
    let mut told = began;
    loop {
        let status = crowd.status()?;
        if told.elapsed() > TELL {
            told = Instant::now();
            say(&format!("companion: after {}: {status:?}", seconds(began.elapsed())));
        }
        if status.held == wanted {
            held.get_or_insert_with(|| began.elapsed());
        }
        if let Some(held) = held.filter(|_| status.named == named) {
            return Ok((held, began.elapsed()));
        }
        wait(&status, began)?;
    }
}

fn wait(status: &Status, began: Instant) -> Result<()> {
    ensure!(began.elapsed() < PATIENCE, "waited in vain: {status:?}");
    ensure!(!signals::interrupted(), "interrupted");
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// Those that have joined.
fn steady(bed: &Bed, crowd: &mut Crowd, goals: &mut Goals, count: u32, options: &Options) -> Result<()> {
    pass(SETTLE)?;
    let (before, pushes, crowds) = (bed.sample()?, crowd.status()?, crowd.stat()?);
    pass(Duration::from_secs(options.length))?;
    let (after, pushed, crowd_after) = (bed.sample()?, crowd.status()?, crowd.stat()?);
    let what = |figure: &str| format!("{count} agents of {} series: {figure}", pushed.series);
    let [rate_in, rate_out] = after.rates(&before);
    let each = |rate: f64| rate / f64::from(count);
    goals.tell(&what("CPU of a core"), &format!("{:.1} %", after.cpu(&before)));
    let theirs = (crowd_after.cpu_ns - crowds.cpu_ns) as f64 / 1e7 / after.since(&before);
    goals.tell(&what("CPU of all these agents"), &format!("{theirs:.0} % of a core"));
    goals.tell(&what("resident"), &format!("{:.0} MiB", after.rss as f64 / MIB));
    goals.tell(&what("bytes in"), &format!("{:.0} KB/s, {:.0} B/s an agent", rate_in / 1e3, each(rate_in)));
    goals.tell(&what("bytes out"), &format!("{:.0} KB/s, {:.0} B/s an agent", rate_out / 1e3, each(rate_out)));
    let answered = (pushed.answered - pushes.answered) as f64 / after.since(&before) * 10.0 / f64::from(count);
    let lost = pushed.cut + pushed.resyncs - pushes.cut - pushes.resyncs;
    let (told, is_met) = (format!("{answered:.2}, {lost} cut"), (0.95..1.05).contains(&answered) && lost == 0);
    goals.check(&what("pushes an agent in 10 s"), "1, 0 cut", &told, is_met);
    match count {
        0..=PAGE => bed.tell_pages(goals, &what("a scrape of everything")),
        _ => Ok(()),
    }
}

/// All agents join by the token, then end at once and begin at once, without names. They have none before:
/// those of each are told once, which takes minutes of the companion's bound.
fn at_once(bed: &Bed, crowd: &mut Crowd, goals: &Goals, options: &Options) -> Result<()> {
    let (count, wanted) = (options.agents, named(options.agents, options));
    let (held, _) = join(crowd, count, crowd.named().min(wanted))?;
    goals.tell(&format!("{count} agents join, each for the first time: all push"), &seconds(held));
    crowd.name(wanted)?;
    bed.forget_peak()?;
    let (before, told_before, crowds) = (bed.sample()?, bed.names()?, crowd.stat()?);
    let began = Instant::now();
    crowd.restart()?;
    let (held, named) = joined(crowd, count, wanted, began)?;
    let (after, told, crowd_after) = (bed.sample()?, bed.names()?, crowd.stat()?);
    let what = |figure: &str| format!("{count} agents begin at once, {wanted} without names: {figure}");
    goals.tell(&what("all push again"), &seconds(held));
    goals.tell(&what("all have names"), &seconds(named));
    let bytes = (told.bytes - told_before.bytes) as f64;
    let rate = bytes / MIB / named.as_secs_f64();
    let each = bytes / 1e6 / f64::from(wanted.max(1));
    goals.tell(&what("names sent"), &format!("{:.2} GB, {each:.1} MB each, {rate:.0} MiB/s", bytes / 1e9));
    goals.tell(&what("shards encoded for it"), &(told.encoded - told_before.encoded).to_string());
    let cpu = Duration::from_nanos(after.cpu_ns - before.cpu_ns);
    goals.tell(&what("CPU"), &format!("{}, {:.0} % of a core", seconds(cpu), after.cpu(&before)));
    let peak = bed.peak()? as f64 / MIB;
    goals.tell(&what("resident, before and highest"), &format!("{:.0}, {peak:.0} MiB", before.rss as f64 / MIB));
    let theirs = (crowd_after.cpu_ns - crowds.cpu_ns) as f64 / named.as_nanos() as f64 * 100.0;
    goals.tell(&what("CPU of all these agents meanwhile"), &format!("{theirs:.0} % of a core"));
    Ok(())
}

/// The companion is killed and started again; the agents keep their names.
fn restarted(
    bed: &mut Bed,
    crowd: &mut Crowd,
    goals: &mut Goals,
    count: u32,
    options: &Options,
    within: Option<f64>,
) -> Result<()> {
    let dials = crowd.status()?.dials;
    let killed = Instant::now();
    bed.kill()?;
    crowd.mark()?;
    bed.start_again()?;
    let serves = killed.elapsed();
    let (mut worst, mut last, mut back) = (0, (Instant::now(), dials), None);
    let (wanted, named) = (u64::from(count), u64::from(named(count, options)));
    let (status, told) = loop {
        let status = crowd.status()?;
        if last.0.elapsed() >= Duration::from_secs(1) {
            worst = worst.max(status.dials - last.1);
            last = (Instant::now(), status.dials);
        }
        // It knows nobody at first: whoever is live has pushed since.
        if back.is_none() && status.held == wanted && bed.live()? == wanted {
            back = Some(killed.elapsed());
        }
        if back.is_some() && status.told == named {
            break (status, killed.elapsed());
        }
        wait(&status, killed)?;
    };
    let back = back.unwrap_or(told);
    let what = |figure: &str| format!("companion killed, {count} agents: {figure}");
    goals.tell(&what("it serves again"), &seconds(serves));
    match within {
        Some(bound) => goals.at_most(&what("all push again"), " s", bound, back.as_secs_f64(), 1),
        None => goals.tell(&what("all push again"), &seconds(back)),
    }
    goals.tell(&what("all know that their names are right"), &seconds(told));
    let all = status.dials - dials;
    goals.tell(&what("attempts, and most in a second"), &format!("{all}, {worst}"));
    let bytes = bed.names()?.bytes as f64 / named.max(1) as f64;
    goals.at_most(&what("bytes of names an agent"), " B", 4096.0, bytes, 0);
    let Sample { cpu_ns, rss, .. } = bed.sample()?;
    let used = format!("{} of CPU since its start, {:.0} MiB", seconds(Duration::from_nanos(cpu_ns)), rss as f64 / MIB);
    goals.tell(&what("it used"), &used);
    Ok(())
}
