//! Raw `bpf()` for TCX (kernel 6.6 and later): make a link at the head of an interface's programs,
//! ask which there are, and whether ours still are. And for links on cgroups (5.7). And the
//! scheduler's word that a thread goes before all others.

#![allow(unsafe_code)]

use flow_model::Direction;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_DETACH: libc::c_long = 34;
/// Without a program to be relative to: before all others.
const BPF_F_BEFORE: u32 = 1 << 3;

/// `link_create` of `union bpf_attr`, as far as TCX and cgroups need it.
#[derive(IntoBytes, FromBytes, Immutable)]
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    /// Of an interface its index, of a cgroup its descriptor.
    target: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    pad: u32,
    expected_revision: u64,
}

/// `link_detach` of `union bpf_attr`.
#[derive(IntoBytes, FromBytes, Immutable)]
#[repr(C)]
struct LinkDetach {
    fd: u32,
}

/// A program at its place, as long as this lives. Dropping it takes the program off at once, also
/// where another process has the descriptor: a fork's child has all of them until its exec.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Drop for Link {
    fn drop(&mut self) {
        // ENOLINK where the interface or the cgroup is gone, or somebody was faster. Before 5.9 the
        // kernel does not know the command, and the descriptor's end is the link's.
        let mut attr = LinkDetach { fd: self.0.as_raw_fd().cast_unsigned() };
        let _ = bpf(BPF_LINK_DETACH, &mut attr);
    }
}

/// `query` of `union bpf_attr`.
#[derive(IntoBytes, FromBytes, Immutable)]
#[repr(C)]
struct ProgQuery {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The calling thread, and those that it starts from now on, run before all ordinary threads of the
/// node as soon as they have something to do (`SCHED_FIFO`, the lowest priority of it). For work of
/// a millisecond that somebody waits for, and no other.
///
/// # Errors
/// EPERM without CAP_SYS_NICE or `RLIMIT_RTPRIO`, or in a cgroup without a share of real time.
pub fn before_all_others() -> Result<(), Errno> {
    schedule(libc::SCHED_FIFO, 1)
}

/// Takes back [`before_all_others`].
///
/// # Errors
/// None that is known.
pub fn as_all_others() -> Result<(), Errno> {
    schedule(libc::SCHED_OTHER, 0)
}

fn schedule(policy: i32, sched_priority: i32) -> Result<(), Errno> {
    let parameters = libc::sched_param { sched_priority };
    // SAFETY: `parameters` is whole and outlives the call; 0 is the calling thread.
    Errno::result(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) }).map(drop)
}

fn attach_type(dir: Direction) -> u32 {
    match dir {
        Direction::Ingress => 46,
        Direction::Egress => 47,
    }
}

/// A TCX link that runs `program` before all others of `dir` at interface `index` of the calling
/// thread's namespace. Both making and dropping it wait for an RCU grace period (8-16 ms).
///
/// # Errors
/// EINVAL where the kernel has no TCX, ENODEV when the interface is gone, EPERM without CAP_NET_ADMIN and CAP_BPF.
pub fn tcx_link(program: BorrowedFd<'_>, index: u32, dir: Direction) -> Result<Link, Errno> {
    let mut attr = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target: index,
        attach_type: attach_type(dir),
        flags: BPF_F_BEFORE,
        relative_fd: 0,
        pad: 0,
        expected_revision: 0,
    };
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: BPF_LINK_CREATE returned a new descriptor, which nothing else owns.
    Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// A link that runs `program` beside all others of `dir` for sockets of `cgroup` and of those below
/// it. It ends with the cgroup, too.
///
/// # Errors
/// EBADF when that is no cgroup of version 2, EPERM without CAP_NET_ADMIN and CAP_BPF or where a
/// parent allows one program only.
pub fn cgroup_link(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, dir: Direction) -> Result<Link, Errno> {
    let mut attr = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target: cgroup.as_raw_fd().cast_unsigned(),
        // BPF_CGROUP_INET_INGRESS and BPF_CGROUP_INET_EGRESS
        attach_type: dir.index() as u32,
        flags: 0,
        relative_fd: 0,
        pad: 0,
        expected_revision: 0,
    };
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: BPF_LINK_CREATE returned a new descriptor, which nothing else owns.
    Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// TCX programs of one direction at an interface: no kernel takes more (`BPF_MPROG_MAX`).
const MOST_TCX: usize = 64;

/// The kernel's numbers of the TCX programs of `dir` at interface `index` of the calling thread's
/// namespace, the first that runs first.
///
/// # Errors
/// EINVAL where the kernel has no TCX, ENODEV when the interface is gone.
pub fn tcx_programs(index: u32, dir: Direction) -> Result<Vec<u32>, Errno> {
    let mut ids = [0u32; MOST_TCX];
    let mut attr = ProgQuery {
        target_ifindex: index,
        attach_type: attach_type(dir),
        query_flags: 0,
        attach_flags: 0,
        prog_ids: std::ptr::from_mut(&mut ids) as u64,
        count: MOST_TCX as u32,
        pad: 0,
        prog_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: `attr` is valid for reads and writes of its size; its one pointer is to `ids`, which
    // outlives the call and has room for `count` numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, std::ptr::from_mut(&mut attr), size_of::<ProgQuery>()) };
    Errno::result(result)?;
    Ok(ids.iter().copied().take(attr.count as usize).collect())
}

/// `info` of `union bpf_attr`.
#[derive(IntoBytes, FromBytes, Immutable)]
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The kernel's number of a program.
///
/// # Errors
/// That is no program.
pub fn program_id(program: BorrowedFd<'_>) -> Result<u32, Errno> {
    // `struct bpf_prog_info`: type, id, ..
    info::<2>(program).map(|[_, id]| id)
}

/// The name of the program with this number, to the first zero; none when it is gone.
#[must_use]
pub fn program_name(id: u32) -> Option<[u8; 16]> {
    let mut attr = GetFd { id, next: 0, flags: 0 };
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut attr).ok()?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor, which nothing else owns.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    // `struct bpf_prog_info`: 64 bytes of numbers, then the name.
    let words = info::<20>(program.as_fd()).ok()?;
    let mut name = [0; 16];
    name.chunks_exact_mut(4).zip(&words[16..]).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_ne_bytes()));
    Some(name)
}

/// `BPF_*_GET_FD_BY_ID` of `union bpf_attr`.
#[derive(IntoBytes, FromBytes, Immutable)]
#[repr(C)]
struct GetFd {
    id: u32,
    next: u32,
    flags: u32,
}

/// The interface that a TCX link sits on, 0 once it was taken off.
///
/// # Errors
/// None that is known.
pub fn tcx_interface(link: &Link) -> Result<u32, Errno> {
    // `struct bpf_link_info`: type, id, prog_id, padding, then by kind: ifindex, attach_type.
    info::<6>(link.0.as_fd()).map(|words| words[4])
}

/// The cgroup that a link sits on, 0 once it was taken off. Takes the kernel's lock of all cgroups.
///
/// # Errors
/// None that is known.
pub fn cgroup_of(link: &Link) -> Result<u64, Errno> {
    // As above, then by kind: cgroup_id in two words, attach_type.
    info::<8>(link.0.as_fd()).map(|words| {
        let mut id = [0; 8];
        id[..4].copy_from_slice(&words[4].to_ne_bytes());
        id[4..].copy_from_slice(&words[5].to_ne_bytes());
        u64::from_ne_bytes(id)
    })
}

/// The first words of what the kernel tells of an object; it writes no more than it is asked for.
fn info<const WORDS: usize>(object: BorrowedFd<'_>) -> Result<[u32; WORDS], Errno> {
    let mut words = [0u32; WORDS];
    let mut attr = GetInfo {
        fd: object.as_raw_fd().cast_unsigned(),
        length: size_of_val(&words) as u32,
        info: std::ptr::from_mut(&mut words) as u64,
    };
    // SAFETY: `attr` is valid for reads and writes of its size; its pointer is to `words`, which
    // outlives the call and is as long as `length` says.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, std::ptr::from_mut(&mut attr), size_of::<GetInfo>())
    };
    Errno::result(result).map(|_| words)
}

fn bpf<A: IntoBytes + FromBytes>(command: libc::c_long, attr: &mut A) -> Result<i32, Errno> {
    // SAFETY: `attr` is valid for reads and writes of its size, which is what the kernel is told; it
    // holds no pointer but null ones, and any bytes that the kernel writes into it are valid values
    // (FromBytes).
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    Errno::result(result).map(|value| value as i32)
}
