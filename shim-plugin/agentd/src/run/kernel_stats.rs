//! The kernel half's own counts, read once a second, off the pipeline's thread: asking for each
//! program's run time takes some microseconds, and there are two for each interface.

use crate::serve::board::{Board, Engine};
use agent_api as api;
use capture_engine::kernel::{Kernel, ProgramInfo};
use golden_metrics::{Loss, Losses};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Looks between two at the programs' run times.
const PROGRAMS_EVERY: u32 = 5;

#[derive(Debug)]
pub struct KernelStatsReader {
    kernel: Arc<Kernel>,
    ring_bytes: u64,
    ring_full: Loss,
    flows_full: Loss,
    unparsed: Loss,
    fragments: Loss,
    unlocked: Loss,
    nested: Loss,
    malformed: Loss,
    opening_full: Loss,
    flows_share: Loss,
    answers_full: Loss,
    replaced_full: Loss,
    astray: Loss,
    looks: u32,
    programs: Vec<api::Program>,
}

impl KernelStatsReader {
    #[must_use]
    pub fn new(kernel: Arc<Kernel>, ring_bytes: u32, losses: &Losses) -> KernelStatsReader {
        KernelStatsReader {
            kernel,
            ring_bytes: u64::from(ring_bytes),
            ring_full: losses.place("kernel", "ring_full", "message heads and closes that found the ring full"),
            flows_full: losses.place("kernel", "flows_full", "packets of flows that found the table full"),
            unparsed: losses.place("kernel", "unparsed", "IP packets whose headers could not be followed"),
            fragments: losses.place("kernel", "fragment", "IP fragments other than the first"),
            unlocked: losses.place("kernel", "unlocked", "packets counted without their flow's lock"),
            nested: losses.place(
                "kernel",
                "nested",
                "packets of the node that found their CPU in the middle of others",
            ),
            opening_full: losses.place(
                "kernel",
                "opening_full",
                "SYNs beyond their namespace's share of half-open connections",
            ),
            flows_share: losses.place(
                "kernel",
                "flows_share",
                "packets of flows beyond their namespace's share of the table",
            ),
            answers_full: losses.place(
                "kernel",
                "answers_full",
                "answers of flows without room that found no place to be known by",
            ),
            replaced_full: losses.place(
                "kernel",
                "replaced_full",
                "connections without a flow, since the end of the one before found no room in the ring nor aside",
            ),
            astray: losses.place("kernel", "astray", "packets among frames whose next header was not known"),
            malformed: losses.place("ring", "malformed", "records that made no sense"),
            looks: 0,
            programs: Vec::new(),
        }
    }

    pub fn read(&mut self, board: &Board) {
        // What the kernel refuses to tell stays as it was.
        if self.looks.is_multiple_of(PROGRAMS_EVERY)
            && let Ok(programs) = self.kernel.programs()
        {
            self.programs = programs.into_iter().map(program).collect();
        }
        self.looks = self.looks.wrapping_add(1);
        let Ok(stats) = self.kernel.stats() else { return };
        self.ring_full.set_total(stats.ring_full);
        self.flows_full.set_total(stats.flows_full);
        self.unparsed.set_total(stats.unparsed);
        self.fragments.set_total(stats.fragments);
        self.unlocked.set_total(stats.unlocked);
        self.nested.set_total(stats.nested);
        self.malformed.set_total(stats.malformed);
        self.opening_full.set_total(stats.opening_full);
        self.flows_share.set_total(stats.flows_share);
        self.answers_full.set_total(stats.answers_full);
        self.replaced_full.set_total(stats.replaced_full);
        self.astray.set_total(stats.astray);
        *board.engine.lock() = Engine {
            ring_bytes: self.ring_bytes,
            flows: board.flows.load(Ordering::Relaxed),
            stats,
            programs: self.programs.clone(),
        };
    }
}

fn program(info: ProgramInfo) -> api::Program {
    let ProgramInfo { name, id: _, stubs, run_count, run_time_ns, verified: _ } = info;
    api::Program { name: name.to_owned(), attached: stubs as u64, runs: run_count, run_time_ns }
}
