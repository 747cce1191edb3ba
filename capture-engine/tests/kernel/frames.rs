//! Frames as a test writes them, and the call that runs a program over one.

use capture_engine::event::{Event, Sample};
use capture_engine::kernel::{Kernel, KernelConfig, Programs, RingReader};
use capture_engine::pipeline::Pipeline;
use etherparse::{PacketBuilder, TcpHeader};
use flow_model::{Direction, Role, Sink, Slot};
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

pub const POD: [u8; 4] = [10, 0, 0, 1];
pub const PEER: [u8; 4] = [10, 0, 0, 2];
pub const POD_PORT: u16 = 80;
pub const PEER_PORT: u16 = 40000;

/// An event that outlives the ring.
#[derive(Clone, Debug)]
pub enum Seen {
    Segment(SeenSegment),
    Closed(Sample),
}

#[derive(Clone, Debug)]
pub struct SeenSegment {
    pub slot: Slot,
    pub dir: Direction,
    pub turn: u32,
    pub seq: u32,
    pub wire_len: u32,
    pub payload: Vec<u8>,
    pub role: Role,
    pub midway: bool,
    pub id: u64,
    pub prev: Option<l7::MessageEnd>,
    pub key: capture_engine::event::FlowKey,
}

impl Seen {
    pub fn of(event: Event<'_>) -> Seen {
        match event {
            Event::Closed(sample) => Seen::Closed(sample),
            Event::Segment(s) => Seen::Segment(SeenSegment {
                slot: s.key.slot,
                dir: s.dir,
                turn: s.turn,
                seq: s.seq,
                wire_len: s.wire_len,
                payload: s.payload.to_vec(),
                role: s.role,
                midway: s.joined_midway,
                id: s.id.0,
                prev: s.prev,
                key: s.key,
            }),
        }
    }

    pub fn segment(&self) -> Option<&SeenSegment> {
        match self {
            Seen::Segment(segment) => Some(segment),
            Seen::Closed(_) => None,
        }
    }
}

/// Loads with `config`, or says why the test cannot run.
pub fn load(config: &KernelConfig) -> Kernel {
    assert!(nix::unistd::geteuid().is_root(), "the kernel tests load programs: run them as root");
    Kernel::load(config).unwrap_or_else(|error| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        panic!("{text}")
    })
}

/// The programs without any interface: frames go in, events come out.
pub struct Bench {
    pub kernel: Kernel,
    reader: RingReader,
    stubs: [OwnedFd; 2],
    /// Per peer's port and direction: the number after the last that was sent, which the other side acknowledges.
    ends: RefCell<HashMap<(u16, usize), u32>>,
}

impl Bench {
    pub fn new(config: &KernelConfig) -> Bench {
        let kernel = load(config);
        let reader = kernel.reader().expect("epoll").expect("the first reader");
        let stub = |dir| kernel.stub(Slot(7), dir).expect("a stub");
        let stubs = [stub(Direction::Ingress), stub(Direction::Egress)];
        Bench { kernel, reader, stubs, ends: RefCell::default() }
    }

    /// From here on, frames are seen in this namespace.
    pub fn go_to(&mut self, slot: Slot) {
        self.stubs = [Direction::Ingress, Direction::Egress].map(|dir| self.kernel.stub(slot, dir).expect("a stub"));
    }

    /// Runs the stub of `dir` over the frame; it must say "next".
    pub fn run(&self, dir: Direction, frame: &[u8]) {
        let (verdict, _) = self.repeat(dir, frame, 1);
        assert_eq!(verdict, -1, "TC_ACT_UNSPEC");
    }

    /// The verdict and the mean nanoseconds of a run.
    pub fn repeat(&self, dir: Direction, frame: &[u8], times: u32) -> (i32, u32) {
        test_run(&self.stubs[dir.index()], frame, times).expect("BPF_PROG_TEST_RUN")
    }

    pub fn drain(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        self.reader.drain(usize::MAX, &mut |event| seen.push(Seen::of(event)));
        seen
    }

    /// Every event that is in the ring.
    pub fn hear(&mut self, each: &mut impl FnMut(Event<'_>)) {
        self.reader.drain(usize::MAX, each);
    }

    /// So many events that are in the ring.
    pub fn hear_some(&mut self, most: usize, each: &mut impl FnMut(Event<'_>)) {
        self.reader.drain(most, each);
    }

    /// Every event that is in the ring, as a round through the table has them.
    pub fn hear_what_is_there(&mut self, each: &mut impl FnMut(Event<'_>)) {
        let mut present = self.reader.present();
        self.reader.drain_present(&mut present, usize::MAX, each);
    }

    /// Hands over the ends that lie aside, as the owner of the pipeline does.
    pub fn take_aside<S: Sink>(&mut self, pipeline: &mut Pipeline<S>) {
        let (read, written) = (self.reader.read(), self.reader.written());
        let mut each = |end: Sample| pipeline.put_aside(&end, written);
        assert!(self.reader.take_aside(usize::MAX, &mut each).expect("ends"));
        pipeline.settle_aside(read, true);
    }

    /// The ends that lie aside.
    pub fn hear_aside(&mut self, each: &mut impl FnMut(Sample)) {
        assert!(self.reader.take_aside(usize::MAX, each).expect("ends"));
    }

    pub fn ring(&self) -> &RingReader {
        &self.reader
    }

    /// Every event that is in the ring, in turns of `most`, while the frame `more` comes once more with each.
    /// How many they were in each turn.
    pub fn hear_present(
        &mut self,
        more: (Direction, &[u8]),
        most: usize,
        each: &mut impl FnMut(Event<'_>),
    ) -> Vec<usize> {
        let Bench { reader, stubs, .. } = self;
        let mut present = reader.present();
        let mut turns = Vec::new();
        while !present.is_over() {
            turns.push(reader.drain_present(&mut present, most, &mut |event| {
                each(event);
                test_run(&stubs[more.0.index()], more.1, 1).expect("BPF_PROG_TEST_RUN");
            }));
        }
        turns
    }

    /// `direction/turn/offset from isn:payload` of what was copied, to compare at one glance.
    pub fn copied(&mut self) -> Vec<String> {
        self.drain().iter().filter_map(Seen::segment).map(describe).collect()
    }

    pub fn only_flow(&self) -> Sample {
        let mut sampler = self.kernel.sampler();
        let page = sampler.turn(16).expect("a turn");
        let samples: Vec<Sample> = page.samples().collect();
        assert_eq!(samples.len(), 1, "one flow: {samples:?}");
        samples[0]
    }
}

pub fn describe(segment: &SeenSegment) -> String {
    let dir = if segment.dir == Direction::Ingress { "in" } else { "out" };
    let text = String::from_utf8_lossy(&segment.payload);
    format!("{dir} {} @{} {text}", segment.turn, segment.seq)
}

/// One TCP connection to the pod's port 80, frame by frame. Client and server both count from 1000,
/// and acknowledge all that was sent.
pub struct Tcp<'a> {
    pub bench: &'a mut Bench,
    pub peer_port: u16,
}

impl Tcp<'_> {
    pub fn frame(&self, dir: Direction, seq: u32, flags: &str, window: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = match dir {
            Direction::Ingress => TcpHeader::new(self.peer_port, POD_PORT, seq, window),
            Direction::Egress => TcpHeader::new(POD_PORT, self.peer_port, seq, window),
        };
        header.syn = flags.contains('S');
        header.ack = flags.contains('A');
        header.fin = flags.contains('F');
        header.rst = flags.contains('R');
        let ends = self.bench.ends.borrow();
        header.acknowledgment_number = ends.get(&(self.peer_port, dir.reverse().index())).copied().unwrap_or_default();
        let (from, to) = if dir == Direction::Ingress { (PEER, POD) } else { (POD, PEER) };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from, to, 64)
            .tcp_header(header)
            .write(&mut frame, payload)
            .expect("a frame");
        frame
    }

    pub fn send(&self, dir: Direction, seq: u32, flags: &str, payload: &[u8]) {
        self.bench.run(dir, &self.frame(dir, seq, flags, 1000, payload));
        let numbers = payload.len() + flags.matches(['S', 'F']).count();
        let (end, key) = (seq.wrapping_add(numbers as u32), (self.peer_port, dir.index()));
        let mut ends = self.bench.ends.borrow_mut();
        let last = ends.entry(key).or_insert(end);
        if flags.contains('S') || end.wrapping_sub(*last) < 1 << 31 {
            *last = end;
        }
    }

    pub fn request(&self, seq: u32, payload: &[u8]) {
        self.send(Direction::Ingress, seq, "A", payload);
    }

    pub fn response(&self, seq: u32, payload: &[u8]) {
        self.send(Direction::Egress, seq, "A", payload);
    }

    pub fn handshake(&self) {
        self.send(Direction::Ingress, 999, "S", b"");
        self.send(Direction::Egress, 999, "SA", b"");
        self.send(Direction::Ingress, 1000, "A", b"");
    }
}

fn test_run(program: &OwnedFd, frame: &[u8], times: u32) -> std::io::Result<(i32, u32)> {
    use aya_obj::generated::{bpf_attr, bpf_cmd};
    // SAFETY: a union of integers; the frame outlives the call and its length is told.
    unsafe {
        let mut attr: bpf_attr = std::mem::zeroed();
        attr.test.prog_fd = program.as_raw_fd() as u32;
        attr.test.data_in = frame.as_ptr() as u64;
        attr.test.data_size_in = frame.len() as u32;
        attr.test.repeat = times;
        let size = size_of::<bpf_attr>();
        if libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_PROG_TEST_RUN as libc::c_int, &raw mut attr, size) < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok((attr.test.retval as i32, attr.test.duration))
    }
}

/// Polls until `done` holds; fails after 30 s.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
