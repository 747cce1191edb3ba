//! A program that counts the packets it sees and passes them on, hand-assembled, so that these
//! tests need no kernel half.

use capture_engine::kernel::{Programs, StubError};
use flow_model::{Direction, Slot};
use netns::Netns;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Counts packets by direction, over all slots; refuses the slots that it was told to.
pub struct Counting {
    map: OwnedFd,
    pub refuses: Mutex<HashSet<Slot>>,
    /// What happens in the middle of the next attach: after the look at the interfaces, before the first change.
    pub meanwhile: Mutex<Option<fn()>>,
    /// What its programs are called.
    pub name: Mutex<&'static str>,
    /// The count that is told stands still.
    pub stands_still: AtomicBool,
    told: AtomicU64,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    rest: [u64; 6],
}

#[repr(C)]
#[derive(Default)]
struct MapElem {
    fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kern_version: u32,
    flags: u32,
    name: [u8; 16],
    rest: [u64; 6],
}

/// `link_create`, as far as TCX needs it.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    index: u32,
    attach_type: u32,
    flags: u32,
    relative: u64,
    revision: u64,
}

fn bpf<A>(command: libc::c_long, attr: &mut A) -> io::Result<i32> {
    // SAFETY: `attr` is valid for its size, and the pointers in it are to values that outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just returned this new descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl Counting {
    pub fn new() -> Counting {
        // BPF_MAP_TYPE_ARRAY with one element, the two counters.
        let mut attr = MapCreate { map_type: 2, key_size: 4, value_size: 16, max_entries: 1, ..MapCreate::default() };
        let map = owned(bpf(BPF_MAP_CREATE, &mut attr).expect("these tests load BPF programs: run them as root"));
        Counting {
            map,
            refuses: Mutex::default(),
            meanwhile: Mutex::default(),
            name: Mutex::new("pilotfish_test"),
            stands_still: AtomicBool::new(false),
            told: AtomicU64::new(0),
        }
    }

    fn program(&self, name: &str, dir: Direction, verdict: i32) -> io::Result<OwnedFd> {
        let counter = dir.index() as i32 * 8;
        let code = [
            instruction(0x18, 0x21, self.map.as_raw_fd()), // r1 = address of the map's value ..
            instruction(0, 0, counter),                    // .. plus offset
            instruction(0xb7, 0x02, 1),                    // r2 = 1
            instruction(0xdb, 0x21, 0),                    // lock *(u64 *)r1 += r2
            instruction(0xb7, 0x00, verdict),              // r0 = verdict
            instruction(0x95, 0, 0),                       // exit
        ];
        let mut attr = ProgLoad {
            prog_type: 3, // BPF_PROG_TYPE_SCHED_CLS
            count: code.len() as u32,
            instructions: code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..ProgLoad::default()
        };
        attr.name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        bpf(BPF_PROG_LOAD, &mut attr).map(owned)
    }

    /// Puts a program before all others that run by TCX at `eth0` of `netns`.
    pub fn overtake(&self, netns: &Netns, name: &str, dir: Direction, verdict: i32) -> Ahead {
        let program = self.program(name, dir, verdict).expect("a program");
        let mut attr = LinkCreate { program: program.as_raw_fd() as u32, ..LinkCreate::default() };
        attr.attach_type = 46 + dir.index() as u32; // BPF_TCX_INGRESS, BPF_TCX_EGRESS
        attr.flags = 1 << 3; // BPF_F_BEFORE
        let link = netns.run(|_| {
            attr.index = nix::net::if_::if_nametoindex("eth0").expect("eth0");
            bpf(BPF_LINK_CREATE, &mut attr)
        });
        Ahead(owned(link.expect("enter").expect("a link")))
    }

    /// A second descriptor of a link of this or another process.
    pub fn share(link: u32) -> OwnedFd {
        // `link_id` and what is no matter here.
        owned(bpf(BPF_LINK_GET_FD_BY_ID, &mut [link, 0, 0]).expect("a link"))
    }

    /// Packets so far, by `Direction::index`.
    pub fn packets(&self) -> [u64; 2] {
        let (key, mut value) = (0u32, [0u64; 2]);
        let mut attr = MapElem {
            fd: self.map.as_raw_fd() as u64,
            key: &raw const key as u64,
            value: &raw mut value as u64,
            flags: 0,
        };
        bpf(BPF_MAP_LOOKUP_ELEM, &mut attr).expect("read the counters");
        value
    }
}

/// A program that is before all others, until it is dropped: also where a parallel test's fork shares
/// the descriptor.
pub struct Ahead(OwnedFd);

impl Drop for Ahead {
    fn drop(&mut self) {
        let detached = bpf(BPF_LINK_DETACH, &mut [self.0.as_raw_fd() as u32]);
        assert!(detached.is_ok() || std::thread::panicking(), "{detached:?}");
    }
}

/// Lets the next program decide.
pub const NEXT: i32 = -1;
/// Ends the way past the programs: those behind it see nothing.
pub const PASS: i32 = 0;

/// `code`, registers (source in the upper half), offset, immediate.
fn instruction(code: u8, registers: u8, immediate: i32) -> u64 {
    u64::from(code) | u64::from(registers) << 8 | u64::from(immediate.cast_unsigned()) << 32
}

impl Programs for Counting {
    fn stub(&self, slot: Slot, dir: Direction) -> Result<OwnedFd, StubError> {
        let refused = |source| StubError { slot, dir, source };
        if self.refuses.lock().contains(&slot) {
            return Err(refused(io::Error::from_raw_os_error(libc::ENOMEM)));
        }
        let meanwhile = self.meanwhile.lock().take();
        if let Some(act) = meanwhile {
            act();
        }
        let name = *self.name.lock();
        self.program(name, dir, NEXT).map_err(refused)
    }

    fn seen(&self, _: Slot) -> Option<u64> {
        if !self.stands_still.load(Ordering::Relaxed) {
            self.told.store(self.packets().iter().sum(), Ordering::Relaxed);
        }
        Some(self.told.load(Ordering::Relaxed))
    }
}
