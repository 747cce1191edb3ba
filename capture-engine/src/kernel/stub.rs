//! The tiny program that sits on an interface: it says which namespace a packet is in and hands
//! over to the shared program.
//!
//! The namespace's slot travels in `skb->cb[0]`, which works on every kernel and makes an
//! attachment independent of the size of the shared program. When the agent is gone the kernel
//! empties the array of shared programs, because no descriptor of user space refers to it any more;
//! a stub that stayed behind then does nothing.

use super::sys;
use aya_obj::generated::bpf_insn;
use flow_model::{Direction, Slot};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What goes onto the interfaces of a namespace. The attachment side knows no more of the kernel half than this.
pub trait Programs: Send + Sync {
    /// A `SCHED_CLS` program that marks packets as seen in `slot` and runs the shared program of
    /// `dir`. It returns "next" on every path and does nothing once the agent is gone. Close the
    /// descriptor after attaching: the attachment holds the program.
    ///
    /// # Errors
    /// When the kernel refuses the program (missing `CAP_BPF` or `CAP_NET_ADMIN`, out of memory).
    fn stub(&self, slot: Slot, dir: Direction) -> Result<OwnedFd, StubError>;

    /// The stubs that clsact filters of all namespaces share; `None` where each has its own.
    fn shared(&self) -> Option<Arc<SharedStubs>> {
        None
    }

    /// Packets that the programs of `slot` have seen, so that it can be told whether they see any:
    /// a count that may wrap, and that others may have a part in. None where nobody counts.
    fn seen(&self, slot: Slot) -> Option<u64> {
        let _ = slot;
        None
    }
}

/// One stub for each direction, for any number of clsact filters: it marks packets with the class that
/// the filter has (`TCA_BPF_CLASSID`), which the kernel tells the program. Loading two programs for
/// each namespace was a quarter of what an attachment cost.
#[derive(Debug)]
pub struct SharedStubs {
    programs: [OwnedFd; 2],
    ids: [u32; 2],
}

impl SharedStubs {
    pub(super) fn load(programs: BorrowedFd<'_>) -> io::Result<SharedStubs> {
        let programs = [load_shared(Direction::Ingress, programs)?, load_shared(Direction::Egress, programs)?];
        let id = |dir: Direction| sys::run_stats(programs[dir.index()].as_fd()).map(|stats| stats.id);
        let ids = [id(Direction::Ingress)?, id(Direction::Egress)?];
        Ok(SharedStubs { programs, ids })
    }

    /// By `Direction::index`.
    #[must_use]
    pub fn programs(&self) -> [BorrowedFd<'_>; 2] {
        [self.programs[0].as_fd(), self.programs[1].as_fd()]
    }

    /// The kernel's numbers of them, by `Direction::index`.
    #[must_use]
    pub fn ids(&self) -> [u32; 2] {
        self.ids
    }
}

/// The class of the filters that hand packets of `slot` to shared stubs. A program is told 16 bits of
/// it, and no class is 0; the last ones have a meaning of their own at clsact.
#[must_use]
pub fn class_of(slot: Slot) -> Option<u16> {
    u16::try_from(slot.0).ok().filter(|class| (1..LAST_CLASSES).contains(class))
}

/// `TC_H_MIN_PRIORITY` and what follows it.
const LAST_CLASSES: u16 = 0xffe0;

/// What goes onto the cgroups of processes that live in the node's own namespace.
pub trait NodePrograms: Send + Sync {
    /// A `CGROUP_SKB` program that marks packets of the sockets that `of` names as seen in `slot`
    /// and runs the shared program on them. It lets every packet pass and does nothing once the
    /// agent is gone.
    ///
    /// # Errors
    /// When the kernel refuses the program or the shared one, which is loaded when the first stub needs it.
    fn node_stub(&self, slot: Slot, dir: Direction, of: Sockets) -> Result<OwnedFd, StubError>;
}

/// Sockets that a stub of a cgroup is meant for. A cgroup's programs run for all cgroups below it,
/// too, and there may be those of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The cgroup that they were made in (inode of its directory).
    pub cgroup: u64,
    /// The namespace that they belong to (`SO_NETNS_COOKIE`). Not looked at on kernels before 6.15,
    /// whose `cgroup_skb` programs cannot ask for it.
    pub netns_cookie: Option<u64>,
}

/// A stub that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("load the program pilotfish_stub for slot {} ({dir:?})", slot.0)]
pub struct StubError {
    /// The slot that it was to mark packets with.
    pub slot: Slot,
    /// The direction that it was for.
    pub dir: Direction,
    /// EPERM without the capabilities; otherwise the verifier's or the shared program's reason.
    #[source]
    pub source: std::io::Error,
}

/// A stub that was handed out. A tail call is charged to the program it began in, so the shared
/// programs' cost stands with the stubs.
#[derive(Debug)]
pub(super) struct Stub {
    pub id: u32,
    pub hook: Hook,
}

/// Where a stub's packets are seen, and which way they go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook {
    Interface(Direction),
    Cgroup(Direction),
}

impl Hook {
    pub(super) const COUNT: usize = 4;

    pub(super) fn index(self) -> usize {
        match self {
            Hook::Interface(dir) => dir.index(),
            Hook::Cgroup(dir) => 2 + dir.index(),
        }
    }
}

/// Figures of stubs that are gone, per hook.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    pub live: Vec<Stub>,
    pub past: [sys::RunStats; Hook::COUNT],
    /// As last read; becomes `past` when the stub is gone.
    pub seen: hashbrown::HashMap<u32, sys::RunStats>,
}

/// The name by which a stub is known to the kernel; leftovers are swept by it.
pub const STUB_NAME: &str = "pilotfish_stub";

// Opcodes as in linux/bpf_common.h and linux/bpf.h.
const LDX_W: u8 = 0x61;
const MOV64_REG: u8 = 0xbf;
const MOV64_IMM: u8 = 0xb7;
const LD_IMM64: u8 = 0x18;
const STX_W: u8 = 0x63;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JNE_REG: u8 = 0x5d;

const PSEUDO_MAP_FD: u8 = 1;
const TAIL_CALL: i32 = 12;
const SKB_CGROUP_ID: i32 = 79;
const GET_NETNS_COOKIE: i32 = 122;
/// `offsetof(struct __sk_buff, cb)`; fixed by the kernel's ABI.
const SKB_CB: i16 = 48;
/// `offsetof(struct __sk_buff, tc_classid)`.
const SKB_CLASS: i16 = 72;
/// `TC_ACT_UNSPEC` and `TCX_NEXT`.
const NEXT: i32 = -1;
/// The verdict of a `CGROUP_SKB` program.
const PASS: i32 = 1;

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn { code, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(dst, src), off, imm }
}

/// `skb->cb[0] = slot; skb->cb[1] = dir; tail_call(skb, programs, 0);` with the context in register 6.
///
/// Values go through a register: before 6.4 an immediate cannot be stored into the context.
fn mark_and_hand_over(slot: Slot, dir: Direction, programs: BorrowedFd<'_>) -> [bpf_insn; 9] {
    let [slot_to, slot_at] = [insn(MOV64_IMM, 2, 0, 0, slot.0 as i32), insn(STX_W, 6, 2, SKB_CB, 0)];
    let [a, b, c, d, e, f, g] = hand_over(dir, programs);
    [slot_to, slot_at, a, b, c, d, e, f, g]
}

/// `skb->cb[1] = dir; tail_call(skb, programs, 0);` with the context in register 6.
fn hand_over(dir: Direction, programs: BorrowedFd<'_>) -> [bpf_insn; 7] {
    [
        insn(MOV64_IMM, 2, 0, 0, dir.index() as i32),
        insn(STX_W, 6, 2, SKB_CB + 4, 0),
        insn(MOV64_REG, 1, 6, 0, 0),
        insn(LD_IMM64, 2, PSEUDO_MAP_FD, 0, programs.as_raw_fd()),
        insn(0, 0, 0, 0, 0),
        insn(MOV64_IMM, 3, 0, 0, 0),
        insn(CALL, 0, 0, 0, TAIL_CALL),
    ]
}

/// Where handing over fails: `skb->cb[0] = skb->cb[1] = 0; return NEXT;`
fn leave_no_mark() -> [bpf_insn; 5] {
    [
        insn(MOV64_IMM, 2, 0, 0, 0),
        insn(STX_W, 6, 2, SKB_CB, 0),
        insn(STX_W, 6, 2, SKB_CB + 4, 0),
        insn(MOV64_IMM, 0, 0, 0, NEXT),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

/// `skb->cb[0] = skb->tc_classid; skb->tc_classid = 0;` and on as [`load`]. A filter without a class
/// begins with that zero, so nothing is different for those behind it.
fn load_shared(dir: Direction, programs: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut insns = vec![
        insn(MOV64_REG, 6, 1, 0, 0),
        insn(LDX_W, 2, 6, SKB_CLASS, 0),
        insn(STX_W, 6, 2, SKB_CB, 0),
        insn(MOV64_IMM, 2, 0, 0, 0),
        insn(STX_W, 6, 2, SKB_CLASS, 0),
    ];
    insns.extend(hand_over(dir, programs));
    insns.extend(leave_no_mark());
    sys::load_stub(sys::Kind::Classifier, STUB_NAME, &insns)
}

/// Marks, hands over, and where that fails `skb->cb[0] = skb->cb[1] = 0; return NEXT;`
pub(super) fn load(slot: Slot, dir: Direction, programs: BorrowedFd<'_>) -> Result<OwnedFd, StubError> {
    let mut insns = vec![insn(MOV64_REG, 6, 1, 0, 0)];
    insns.extend(mark_and_hand_over(slot, dir, programs));
    insns.extend(leave_no_mark());
    sys::load_stub(sys::Kind::Classifier, STUB_NAME, &insns).map_err(|source| StubError { slot, dir, source })
}

/// `if (cgroup_id(skb) == cgroup && netns_cookie(skb) == cookie) { mark; hand over; } return PASS;`
/// The kernel puts `skb->cb` back by itself.
pub(super) fn load_node(
    slot: Slot,
    dir: Direction,
    programs: BorrowedFd<'_>,
    of: Sockets,
) -> Result<OwnedFd, StubError> {
    let Sockets { cgroup, netns_cookie } = of;
    let tail = mark_and_hand_over(slot, dir, programs);
    let questions: Vec<(i32, u64)> =
        [Some((SKB_CGROUP_ID, cgroup)), netns_cookie.map(|cookie| (GET_NETNS_COOKIE, cookie))]
            .into_iter()
            .flatten()
            .collect();
    // Register 6 keeps the context over calls.
    let mut insns = vec![insn(MOV64_REG, 6, 1, 0, 0)];
    const QUESTION: usize = 5;
    for (number, (helper, expected)) in questions.iter().enumerate() {
        let behind = tail.len() + (questions.len() - number - 1) * QUESTION;
        insns.extend([
            insn(MOV64_REG, 1, 6, 0, 0),
            insn(CALL, 0, 0, 0, *helper),
            insn(LD_IMM64, 1, 0, 0, *expected as i32),
            insn(0, 0, 0, 0, (*expected >> 32) as i32),
            insn(JNE_REG, 0, 1, behind as i16, 0),
        ]);
    }
    insns.extend(tail);
    insns.extend([insn(MOV64_IMM, 0, 0, 0, PASS), insn(EXIT, 0, 0, 0, 0)]);
    sys::load_stub(sys::Kind::CgroupSkb, STUB_NAME, &insns).map_err(|source| StubError { slot, dir, source })
}
