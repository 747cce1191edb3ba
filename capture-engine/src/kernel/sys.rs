//! Raw `bpf(2)`: what aya has no call for. The only file of the crate with unsafe code.
#![allow(unsafe_code)]

use aya::maps::MapData;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_prog_info, bpf_prog_type};
use capture_wire::{Control, OPENING};
use std::ffi::c_long;
use std::io;
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<c_long> {
    // SAFETY: `attr` is a whole, initialised bpf_attr. The pointers in it are set by the functions
    // of this file only, each to memory that outlives the call and is as long as the kernel will
    // read or write.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, cmd as libc::c_int, std::ptr::from_mut(attr), size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn attr() -> bpf_attr {
    // SAFETY: a union of plain integers, for which all zeroes is a value; the kernel wants unused bytes to be zero.
    unsafe { zeroed() }
}

fn owned(fd: c_long) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us, and nothing else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// A map with the sizes of its keys and values (of all CPUs together for a per-CPU map).
#[derive(Debug)]
pub(super) struct Map {
    map: MapData,
    key: usize,
    value: usize,
}

/// What one batch call brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub count: usize,
    pub end: bool,
}

/// Where the next batch of a hash map goes on: the kernel's number of a bucket, and whether there is one yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor([u8; 4], bool);

impl Map {
    /// `key` and `value` must be the sizes that the map was created with.
    pub(super) fn new(map: MapData, key: usize, value: usize) -> Map {
        Map { map, key, value }
    }

    fn element(&self, key: &[u8], value: u64, flags: u64) -> bpf_attr {
        assert_eq!(key.len(), self.key, "a key of this map's size");
        let mut attr = attr();
        attr.__bindgen_anon_2.map_fd = self.fd().as_raw_fd() as u32;
        attr.__bindgen_anon_2.key = key.as_ptr() as u64;
        attr.__bindgen_anon_2.__bindgen_anon_1.value = value;
        attr.__bindgen_anon_2.flags = flags;
        attr
    }

    /// False: no such key.
    pub(super) fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> io::Result<bool> {
        assert_eq!(value.len(), self.value, "a value of this map's size");
        let mut attr = self.element(key, value.as_mut_ptr() as u64, flags);
        found(bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr))
    }

    /// Looks up and deletes in one step.
    pub(super) fn take(&self, key: &[u8], value: &mut [u8], flags: u64) -> io::Result<bool> {
        assert_eq!(value.len(), self.value, "a value of this map's size");
        let mut attr = self.element(key, value.as_mut_ptr() as u64, flags);
        found(bpf(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr))
    }

    /// Of a queue: the value that has been there longest, which then is there no more. False: there is none.
    pub(super) fn pop(&self, value: &mut [u8]) -> io::Result<bool> {
        assert_eq!(value.len(), self.value, "a value of this map's size");
        let mut attr = self.element(&[], value.as_mut_ptr() as u64, 0);
        // It has no keys, and the kernel wants none.
        attr.__bindgen_anon_2.key = 0;
        found(bpf(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr))
    }

    pub(super) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value, "a value of this map's size");
        let mut attr = self.element(key, value.as_ptr() as u64, 0);
        bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    pub(super) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        let mut attr = self.element(key, 0, 0);
        found(bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr))
    }

    /// Of a hash map only. Fills `keys` and `values`, whose room for entries must be equal.
    /// `ENOSPC`: one bucket of the hash holds more entries than there is room.
    pub(super) fn lookup_batch(
        &self,
        cursor: &mut Cursor,
        keys: &mut [u8],
        values: &mut [u8],
        flags: u64,
    ) -> io::Result<Batch> {
        let room = keys.len() / self.key;
        assert!(values.len() / self.value == room, "room for as many values as keys");
        let Cursor(from, started) = *cursor;
        let mut attr = attr();
        attr.batch.map_fd = self.fd().as_raw_fd() as u32;
        attr.batch.in_batch = if started { from.as_ptr() as u64 } else { 0 };
        attr.batch.out_batch = cursor.0.as_mut_ptr() as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = room as u32;
        attr.batch.elem_flags = flags;
        let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        cursor.1 = true;
        // SAFETY: `batch` is the member that was written above; the kernel wrote the count of valid entries into it.
        let count = unsafe { attr.batch.count } as usize;
        match result {
            Ok(_) => Ok(Batch { count, end: false }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch { count, end: true }),
            Err(error) => Err(error),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }
}

fn found(result: io::Result<c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a stub is attached to. A `CgroupSkb` one is loaded as of ingress and goes onto both directions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Classifier,
    CgroupSkb,
}

/// Loads a program of `insns`.
pub(super) fn load_stub(kind: Kind, name: &str, insns: &[bpf_insn]) -> io::Result<OwnedFd> {
    let mut attr = attr();
    // SAFETY: writing to a member of a union of plain integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = match kind {
        Kind::Classifier => bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS,
        Kind::CgroupSkb => bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB,
    } as u32;
    load.insns = insns.as_ptr() as u64;
    load.insn_cnt = insns.len() as u32;
    load.license = c"GPL".as_ptr() as u64;
    for (to, from) in load.prog_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from as std::ffi::c_char;
    }
    unless_interrupted(|| bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr), |error| Some(error)).map(owned)
}

/// Gives memory that was freed back to the kernel. For what takes much of it once.
#[cfg(target_env = "gnu")]
pub(super) fn give_back_memory() {
    // SAFETY: it moves nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Allocators other than glibc's do it by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back_memory() {}

/// How often a program is offered to the verifier before an interruption counts as a refusal;
/// several a second would have to arrive for that.
const LOAD_ATTEMPTS: u32 = 16;

/// Loads a program, again where the verifier was interrupted: it gives up with `EAGAIN` when a
/// signal is pending for the thread, which stop and continue are, too (`do_check` in
/// kernel/bpf/verifier.c). `cause` finds the kernel's answer in an error.
pub(super) fn unless_interrupted<T, E>(
    mut load: impl FnMut() -> Result<T, E>,
    cause: impl Fn(&E) -> Option<&io::Error>,
) -> Result<T, E> {
    for _ in 1..LOAD_ATTEMPTS {
        match load() {
            Err(error) if cause(&error).is_some_and(|cause| cause.raw_os_error() == Some(libc::EAGAIN)) => {}
            loaded => return loaded,
        }
    }
    load()
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunStats {
    pub id: u32,
    pub run_time_ns: u64,
    pub run_count: u64,
    pub verified: u32,
}

pub(super) fn run_stats(program: BorrowedFd<'_>) -> io::Result<RunStats> {
    // SAFETY: plain integers, of which all zeroes is a value.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    let mut attr = attr();
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let bpf_prog_info { id, run_time_ns, run_cnt: run_count, verified_insns: verified, .. } = info;
    Ok(RunStats { id, run_time_ns, run_count, verified })
}

/// `None`: no program has this id any more.
pub(super) fn program_by_id(id: u32) -> io::Result<Option<OwnedFd>> {
    let mut attr = attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    match bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr) {
        Ok(fd) => Ok(Some(owned(fd))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `pilotfish_control` in our memory, all of it: the reader's state changes hundreds of times a
/// second, without a system call.
#[derive(Debug)]
pub(super) struct ControlPage {
    at: NonNull<u8>,
    length: usize,
}

impl ControlPage {
    pub(super) fn map(control: &Map) -> io::Result<ControlPage> {
        // SAFETY: sysconf only reads.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let length = size_of::<Control>().next_multiple_of(page);
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else lies there.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                control.fd().as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at.cast()).map(|at| ControlPage { at, length }).ok_or_else(|| io::Error::other("mapped at 0"))
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `offset` is that of an aligned u32 within `Control`, which lies at the start of
        // the pages that stay mapped as long as `self`. User space touches them through these
        // atomics only; the kernel's programs load and store whole words.
        unsafe { AtomicU32::from_ptr(self.at.as_ptr().add(offset).cast()) }
    }

    pub(super) fn reader(&self) -> &AtomicU32 {
        self.word(offset_of!(Control, reader))
    }

    /// Half-open connections of the namespaces that have this place; None: of all. Signed, as two's complement.
    pub(super) fn opening(&self, place: Option<usize>) -> &AtomicU32 {
        match place {
            Some(place) => self.word(offset_of!(Control, opening) + place % OPENING * size_of::<i32>()),
            None => self.word(offset_of!(Control, opening_all)),
        }
    }

    /// All flows of the namespaces that have this place; None: of all. Signed, as two's complement.
    pub(super) fn flows(&self, place: Option<usize>) -> &AtomicU32 {
        match place {
            Some(place) => self.word(offset_of!(Control, flows) + place % OPENING * size_of::<i32>()),
            None => self.word(offset_of!(Control, flows_all)),
        }
    }

    /// Answers that were seen of flows without room, by the wire's number of a direction.
    pub(super) fn answers(&self, dir: usize) -> &AtomicU64 {
        let offset = offset_of!(Control, answers) + dir % 2 * size_of::<u64>();
        // SAFETY: as in `word`, and `answers` is aligned for it.
        unsafe { AtomicU64::from_ptr(self.at.as_ptr().add(offset).cast()) }
    }

    pub(super) fn commands(&self) -> &AtomicU32 {
        self.word(offset_of!(Control, commands))
    }

    pub(super) fn servers(&self) -> &AtomicU32 {
        self.word(offset_of!(Control, servers))
    }

    pub(super) fn quiet(&self) -> &AtomicU32 {
        self.word(offset_of!(Control, quiet))
    }

    pub(super) fn aside(&self) -> &AtomicU32 {
        self.word(offset_of!(Control, aside))
    }

    pub(super) fn overrides(&self) -> &AtomicU32 {
        self.word(offset_of!(Control, overrides))
    }
}

impl Drop for ControlPage {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; no reference into it outlives `self`.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}

// SAFETY: shared memory that is only reached through atomics.
unsafe impl Send for ControlPage {}
// SAFETY: as above.
unsafe impl Sync for ControlPage {}
