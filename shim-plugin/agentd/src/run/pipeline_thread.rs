//! The thread that turns what the kernel saw into what is counted. It owns the ring's reader, the
//! flow table and the series, and shares nothing of them: others send it orders, and read what it
//! publishes.

use crate::clock;
use crate::run::engine::Loaded;
use crate::run::orders::Order;
use crate::run::own_news::OwnNews;
use crate::serve::board::Board;
use crate::serve::pulse::Turn;
use anyhow::Context;
use capture_engine::event::{Event, FlowId, FlowKey, Sample};
use capture_engine::kernel::{Overrides, Present, RingReader, Sampler};
use capture_engine::pipeline::{Pipeline, PipelineConfig, Sampling};
use flow_model::{Close, Direction, Names, Role, Ts};
use golden_metrics::{Golden, Loss, Losses};
use k8s_sync::NamesReader;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// Events between two looks at everything else: about 4 ms of work, and twice that where flows are read.
const BATCH: usize = 8192;
/// Longest sleep when nothing happens; timers of flows, orders and new series wait that long at most.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// Between two looks at timers.
const TICK: Duration = Duration::from_millis(20);
/// Between two looks at connections that nothing is seen of, for names that became known.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Between two looks at its own counts.
const COUNTS: Duration = Duration::from_secs(1);
/// Flows read at a time: 0.3 ms, so that the ring is not left alone for long.
const TURN: usize = 1024;
/// The same where a whole ring is to be read in between, which takes far longer.
const TURN_BEHIND: usize = 4 * TURN;

/// Where it hears from others.
#[derive(Debug)]
pub struct Told {
    pub orders: Receiver<Order>,
    /// What belongs to namespaces.
    pub own: OwnNews,
}

/// Flows that the sampler has read, and that are not believed yet.
#[derive(Debug)]
struct Waiting {
    /// When they were read.
    at: Ts,
    /// What was in the ring then.
    present: Present,
    /// Of that, what was handed over.
    events: usize,
}

#[derive(Debug)]
pub struct PipelineThread {
    reader: RingReader,
    sampler: Sampler,
    overrides: Overrides,
    pipeline: Pipeline<Golden<NamesReader>>,
    sampling: Sampling,
    /// Flows were read, and wait for the events from before.
    waiting: Option<Waiting>,
    /// Turns after which they went on waiting.
    put_off: u64,
    /// More events than a batch were there when flows were read last.
    behind: bool,
    board: Arc<Board>,
    told: Told,
    table_full: Loss,
    /// Answers of flows without room in the kernel's table, as far as they are told.
    answers: [u64; 2],
    address_late: Loss,
    holes: Loss,
    holes_bounded: Loss,
    overrides_full: Loss,
    ticked: Ts,
    counts_at: Ts,
    /// When silent connections were looked at last, and the names then.
    again_at: Ts,
    names: u64,
}

impl Waiting {
    /// Hands over up to `most` of the events from before.
    fn drain(&mut self, reader: &mut RingReader, most: usize, each: &mut impl FnMut(Event<'_>)) -> usize {
        let drained = reader.drain_present(&mut self.present, most, each);
        self.events += drained;
        drained
    }
}

impl PipelineThread {
    pub fn new(
        config: PipelineConfig,
        loaded: Loaded,
        golden: Golden<NamesReader>,
        board: Arc<Board>,
        losses: &Losses,
        told: Told,
    ) -> PipelineThread {
        let Loaded { kernel, reader, .. } = loaded;
        PipelineThread {
            sampler: kernel.sampler(),
            overrides: kernel.overrides(),
            reader,
            pipeline: Pipeline::new(config, golden),
            sampling: Sampling::new(config.flows),
            waiting: None,
            put_off: 0,
            behind: false,
            board,
            told,
            table_full: losses.place("pipeline", "flows_full", "segments of flows that found the table full"),
            answers: [0; 2],
            address_late: losses.place(
                "pipeline",
                "address_late",
                "flows that ended before their address was known to be their namespace's",
            ),
            holes: losses.place("pipeline", "hole", "holes in a stream whose bytes never came"),
            holes_bounded: losses.place("pipeline", "hole_bounded", "holes given up because a bound was reached"),
            overrides_full: losses.place("kernel", "overrides_full", "flows that are copied as others are"),
            ticked: Ts::default(),
            counts_at: Ts::default(),
            again_at: Ts::default(),
            names: 0,
        }
    }

    /// Runs until it is told to finish.
    ///
    /// # Errors
    /// When the ring cannot be waited for.
    pub fn run(mut self) -> anyhow::Result<()> {
        loop {
            if let Some(pause) = self.board.take_pause() {
                tracing::warn!(?pause, "the ring's reader sleeps, as asked");
                std::thread::sleep(pause);
            }
            // First: what is in the ring may be of an address that has just come.
            for (slot, own) in self.told.own.take() {
                self.pipeline.own(slot, own, clock::now());
            }
            let drained = self.drain(BATCH);
            self.board.pulse.beat(Instant::now());
            let now = clock::now();
            let mut more_orders = true;
            match self.told.orders.try_recv() {
                Ok(Order::NamespaceGone { slot, at }) => self.sampling.leaving(slot, at),
                Ok(Order::Seeds(seeds)) => seeds.seeds.iter().for_each(|seed| self.pipeline.seed(seed, seeds.at)),
                Ok(Order::Silent { answer }) => {
                    // As below: nobody waits for it once the agent drains.
                    let _ = answer.send(self.pipeline.silent());
                }
                Ok(Order::Ended { ended, at }) => {
                    ended.into_iter().for_each(|(slot, tuple)| self.pipeline.ended_unseen(slot, tuple, at));
                }
                Ok(Order::Read(wires)) => self.pipeline.read(wires),
                Ok(Order::Cluster(names)) => self.pipeline.sink_mut().names_mut().set_cluster(names),
                Ok(Order::LearntNames { ip, at, answer }) => {
                    // Who asked may have given up.
                    let _ = answer.try_send(self.pipeline.sink_mut().names().learnt_names(ip, at));
                }
                Ok(Order::Finish) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => more_orders = false,
            }
            self.tell_taps();
            let more = self.upkeep(now);
            if drained.max(more) < BATCH && !more_orders {
                self.reader.wait(self.sampling.sleep(LONGEST_SLEEP)).context("wait for the ring")?;
            }
        }
        while self.drain(BATCH) == BATCH {}
        self.take_aside();
        self.pipeline.settle_aside(u64::MAX, true);
        self.pipeline.sink_mut().publish();
        self.publish_counts();
        Ok(())
    }

    /// Fewer than `most`: the ring was empty.
    fn drain(&mut self, most: usize) -> usize {
        let PipelineThread { reader, pipeline, waiting, board, .. } = self;
        let mut turn = Turn::new(&board.pulse);
        let mut each = |event: Event<'_>| {
            pipeline.event(&event);
            turn.gets_on();
        };
        let mut drained = waiting.as_mut().map_or(0, |waiting| waiting.drain(reader, most, &mut each));
        if drained < most {
            drained += reader.drain(most - drained, &mut each);
        }
        self.tell_kernel();
        drained
    }

    /// What the dissectors want of single flows from now on.
    fn tell_kernel(&mut self) {
        for (key, id, interest) in self.pipeline.requests().take_interests() {
            if self.overrides.set(&key, id, interest).is_err() {
                self.overrides_full.add(1);
            }
        }
        for (server, eager) in self.pipeline.requests().take_servers() {
            if self.overrides.eager(server, eager).is_err() {
                self.overrides_full.add(1);
            }
        }
        for (key, id, headers) in self.pipeline.requests().take_headers() {
            // What the kernel refuses leaves the flow astray, which is counted there.
            let _ = self.overrides.straighten(&key, id, headers);
        }
    }

    /// Readers that came, and what those who are there want to be kept.
    fn tell_taps(&mut self) {
        let PipelineThread { pipeline, board, .. } = self;
        for tap in board.taps.take_opened() {
            pipeline.sink_mut().observe(Box::new(tap));
        }
        let want_paths = board.taps.want_paths();
        if board.keeps_paths.load(Ordering::Relaxed) != want_paths {
            board.keeps_paths.store(want_paths, Ordering::Relaxed);
            pipeline.keep_strings(want_paths);
        }
    }

    /// Says how many events were handed over meanwhile.
    fn upkeep(&mut self, now: Ts) -> usize {
        if now.since(self.ticked) >= TICK {
            self.ticked = now;
            let PipelineThread { pipeline, sampler, .. } = self;
            pipeline.tick(now, |key| sampler.lookup(key).ok().flatten());
            self.tell_kernel();
            // Flows that were read before they ended are known to have ended as long as they are not removed.
            let may_forget = self.waiting.is_none();
            if may_forget {
                self.remove_closed(now);
            }
            // What is remembered of an end must be so until that has come which was put aside before its flow was
            // removed.
            if self.take_aside() && may_forget {
                self.pipeline.requests().forget(now, self.reader.read(), self.reader.written());
            }
        }
        let events = self.sample(now);
        self.pipeline.sink_mut().publish_if_due(now);
        if now.since(self.again_at) >= LOOK_AGAIN {
            self.again_at = now;
            let names = self.pipeline.sink().names().version();
            if std::mem::replace(&mut self.names, names) != names {
                self.pipeline.announce_again();
            }
        }
        if now.since(self.counts_at) >= COUNTS {
            self.counts_at = now;
            self.publish_counts();
        }
        events
    }

    /// Reads some flows of the kernel's table, when a round is under way or due: counters of flows
    /// that are still open, heads whose events were lost, and what can be let go. Hands over the events
    /// from before, a batch of them: with more there the flows wait, and whoever has an order does not.
    fn sample(&mut self, now: Ts) -> usize {
        let mut events = 0;
        if self.waiting.is_none() {
            if !self.sampling.begin(now) {
                return 0;
            }
            let PipelineThread { sampler, reader, pipeline, sampling, waiting, behind, board, .. } = self;
            let began = clock::of_this_thread();
            let read = sampler.turn(if *behind { TURN_BEHIND } else { TURN }).is_ok();
            sampling.spent(clock::of_this_thread().saturating_sub(began));
            if !read {
                // The kernel had no memory for it. A later round will do.
                sampling.end();
                return 0;
            }
            // Every event from before the sample must be handed over before it. Not each that comes meanwhile:
            // a ring that is never empty would have its ends, for which it has no room, found by nobody.
            let mut turn = Turn::new(&board.pulse);
            let mut read = Waiting { at: now, present: reader.present(), events: 0 };
            events = read.drain(reader, BATCH, &mut |event| {
                pipeline.event(&event);
                turn.gets_on();
            });
            *waiting = Some(read);
        }
        match self.waiting.take_if(|waiting| waiting.present.is_over()) {
            Some(read) => self.believe(&read),
            None => self.put_off += 1,
        }
        self.tell_kernel();
        events
    }

    /// The flows that were read last: all events from before are handed over.
    fn believe(&mut self, read: &Waiting) {
        let PipelineThread { sampler, pipeline, sampling, behind, board, .. } = self;
        let Waiting { at: now, present: _, events } = *read;
        *behind = events > BATCH;
        let page = sampler.page();
        let mut turn = Turn::new(&board.pulse);
        let began = clock::of_this_thread();
        let mut over: Vec<(FlowKey, FlowId)> = Vec::new();
        let mut idle: Vec<Sample> = Vec::new();
        for mut sample in page.samples() {
            turn.gets_on();
            sampling.saw(sample.key.slot);
            if pipeline.is_untold(&sample) {
                sampling.untold();
            }
            if sample.closed.is_none() && Sampling::is_closed_unseen(&sample, now) {
                sample.closed = Some(Close::Fin);
            }
            if sampling.is_left_half_closed(&sample) {
                // A server that died with requests under way: they got no answer, and are not lost.
                sample.closed = Some(Close::Fin);
                pipeline.last_word(&sample);
                over.push((sample.key, sample.id));
                continue;
            }
            pipeline.sample(&sample, now);
            // A closed flow stays for its trailing packets; the pipeline says when it can go.
            if sample.closed.is_none() && sampling.is_over(&sample, now) {
                idle.push(sample);
            }
        }
        let last = page.last;
        for sample in idle.into_iter().filter(|sample| is_as_read(sampler, sample)) {
            pipeline.let_go(&sample.key, now);
            over.push((sample.key, sample.id));
        }
        over.into_iter().for_each(|(key, id)| remove(sampler, &key, id));
        sampling.spent(clock::of_this_thread().saturating_sub(began));
        if last {
            for (slot, at) in sampling.end() {
                pipeline.namespace_gone(slot, at);
            }
        }
    }

    /// Entries of flows that ended some time ago, unless their tuple is in use again.
    fn remove_closed(&mut self, now: Ts) {
        for (key, id) in self.pipeline.requests().take_removable(now) {
            remove(&self.sampler, &key, id);
        }
    }

    /// Ends that the ring refused. Returns whether all of them have come.
    fn take_aside(&mut self) -> bool {
        let PipelineThread { reader, pipeline, .. } = self;
        // Those that lie there now were put there before anything that is in the ring from here on.
        let (read, written) = (reader.read(), reader.written());
        let all = reader.take_aside(pipeline.room_aside(), &mut |end| pipeline.put_aside(&end, written));
        // What the kernel refuses to give out lies there until the next time.
        let all = all.unwrap_or(false);
        pipeline.settle_aside(read, all);
        all
    }

    fn publish_counts(&mut self) {
        let answers = self.sampler.answers();
        let before = std::mem::replace(&mut self.answers, answers);
        // What came to a pod was an answer to it.
        for (dir, role) in [(Direction::Ingress, Role::Client), (Direction::Egress, Role::Server)] {
            let of = |counts: [u64; 2]| counts.get(dir.index()).copied().unwrap_or_default();
            self.pipeline.unfollowed(role, of(answers).saturating_sub(of(before)));
        }
        let stats = self.pipeline.stats();
        self.table_full.set_total(stats.table_full);
        self.holes.set_total(stats.holes.saturating_sub(stats.holes_bounded));
        self.holes_bounded.set_total(stats.holes_bounded);
        self.address_late.set_total(stats.address_late);
        *self.board.forwarded.lock() = self.pipeline.forwarded().collect();
        *self.board.pipeline.lock() = stats;
        self.board.flows.store(self.pipeline.len() as u64, Ordering::Relaxed);
        self.board.put_off.store(self.put_off, Ordering::Relaxed);
    }
}

/// Whether nothing has come of the flow since it was read: beside a full ring that may be seconds ago.
fn is_as_read(sampler: &Sampler, read: &Sample) -> bool {
    sampler.lookup(&read.key).is_ok_and(|now| now.is_none_or(|now| now.id == read.id && now.at == read.at))
}

/// Takes the flow out of the kernel's table. Not another one that has come in its place.
fn remove(sampler: &Sampler, key: &FlowKey, id: FlowId) {
    if sampler.lookup(key).is_ok_and(|sample| sample.is_some_and(|sample| sample.id == id)) {
        // What the kernel refuses to remove is found again in a later round.
        let _ = sampler.remove(std::slice::from_ref(key));
    }
}
