//! The C of the kernel programs as a shared object: built by the clang that builds them, opened once.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

type Reset = unsafe extern "C" fn(u32);
type Packet = unsafe extern "C" fn(u32, u32, *const u8, u32) -> i32;
type Meanwhile = unsafe extern "C" fn(u32, u32, *const u8, u32, u32);
type Walk = unsafe extern "C" fn(*const capture_wire::Frames, u32, u32, u32);
type Bytes = unsafe extern "C" fn(*mut u32) -> *const u8;

/// The folder of what stands in for the kernel.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/script/host")
}

/// It has one state: who has it holds the lock.
pub struct Library {
    reset: Reset,
    packet: Packet,
    meanwhile: Meanwhile,
    walk: Walk,
    empty: Reset,
    empty_aside: Reset,
    eager: Reset,
    lines: Reset,
    ring_bytes: Reset,
    room: Reset,
    aside_room: Reset,
    ring: Bytes,
    aside: Bytes,
    flows: Bytes,
    answers: Bytes,
}

impl Library {
    pub fn get() -> &'static Mutex<Library> {
        static LIBRARY: OnceLock<Mutex<Library>> = OnceLock::new();
        LIBRARY.get_or_init(|| Mutex::new(Library::build()))
    }

    fn build() -> Library {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let host = source();
        let dir = tempfile::tempdir().expect("a directory");
        let object = dir.path().join("host.so");
        let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
        let built = Command::new(&clang)
            .args([
                "-O2",
                "-fno-strict-aliasing",
                "-shared",
                "-fPIC",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-Wno-unused-function",
            ])
            .arg(format!("-I{}", host.display()))
            .arg(format!("-I{}", crate_dir.join("bpf").display()))
            .arg(host.join("host.c"))
            .arg("-o")
            .arg(&object)
            .output()
            .expect("clang");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let path = CString::new(object.to_str().expect("a path")).expect("a path");
        // SAFETY: the object was built a moment ago and runs nothing when it is opened; it is never closed.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "open {}", object.display());
        let symbol = |name: &str| {
            let name = CString::new(name).expect("a name");
            // SAFETY: the handle is open.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            assert!(!symbol.is_null(), "no {name:?}");
            symbol
        };
        // SAFETY: these are the types that `host.c` gives them.
        unsafe {
            Library {
                reset: std::mem::transmute::<*mut libc::c_void, Reset>(symbol("host_reset")),
                packet: std::mem::transmute::<*mut libc::c_void, Packet>(symbol("host_packet")),
                meanwhile: std::mem::transmute::<*mut libc::c_void, Meanwhile>(symbol("host_meanwhile")),
                walk: std::mem::transmute::<*mut libc::c_void, Walk>(symbol("host_walk")),
                empty: std::mem::transmute::<*mut libc::c_void, Reset>(symbol("host_empty")),
                empty_aside: std::mem::transmute::<*mut libc::c_void, Reset>(symbol("host_empty_aside")),
                eager: std::mem::transmute::<*mut libc::c_void, Reset>(symbol("host_eager")),
                lines: std::mem::transmute::<*mut libc::c_void, Reset>(symbol("host_lines")),
                ring_bytes: std::mem::transmute::<*mut libc::c_void, Reset>(symbol("host_ring_bytes")),
                room: std::mem::transmute::<*mut libc::c_void, Reset>(symbol("host_room")),
                aside_room: std::mem::transmute::<*mut libc::c_void, Reset>(symbol("host_aside_room")),
                ring: std::mem::transmute::<*mut libc::c_void, Bytes>(symbol("host_ring")),
                aside: std::mem::transmute::<*mut libc::c_void, Bytes>(symbol("host_aside")),
                flows: std::mem::transmute::<*mut libc::c_void, Bytes>(symbol("host_flows")),
                answers: std::mem::transmute::<*mut libc::c_void, Bytes>(symbol("host_answers")),
            }
        }
    }

    pub fn reset(&mut self, head_bytes: u32) {
        // SAFETY: one thread at a time, by `&mut`.
        unsafe { (self.reset)(head_bytes) }
    }

    pub fn packet(&mut self, slot: u32, dir: u32, frame: &[u8]) -> i32 {
        // SAFETY: as above; the frame outlives the call and its length is told.
        unsafe { (self.packet)(slot, dir, frame.as_ptr(), frame.len() as u32) }
    }

    /// Two packets of two CPUs: the second is handled whole while the first one is, after so many calls of helpers.
    pub fn two_packets(&mut self, slot: u32, first: (u32, &[u8]), second: (u32, &[u8]), calls: u32) -> i32 {
        let (dir, frame) = second;
        // SAFETY: one thread at a time, by `&mut`; the frame is forgotten when `packet` returns, and outlives that.
        unsafe { (self.meanwhile)(slot, dir, frame.as_ptr(), frame.len() as u32, calls) };
        self.packet(slot, first.0, first.1)
    }

    /// From here on flows are walked; bit per direction of `straight`: a header begins there.
    pub fn walk(&mut self, frames: &capture_wire::Frames, straight: u32, headers: [u32; 2]) {
        // SAFETY: one thread at a time, by `&mut`; it is copied.
        unsafe { (self.walk)(frames, straight, headers[0], headers[1]) }
    }

    /// From here on new connections are copied whole, as where their server is known.
    pub fn eager(&mut self) {
        // SAFETY: as above.
        unsafe { (self.eager)(0) }
    }

    /// From here on requests are counted, by `FRAMES_LINES_*`; 0: no longer.
    pub fn lines(&mut self, how: u8) {
        // SAFETY: as above.
        unsafe { (self.lines)(how.into()) }
    }

    /// From here on the ring has so many bytes, 1 MiB at most.
    pub fn ring_bytes(&mut self, bytes: u32) {
        // SAFETY: as above.
        unsafe { (self.ring_bytes)(bytes) }
    }

    /// From here on so many flows find room, 16 at most.
    pub fn room(&mut self, flows: u32) {
        // SAFETY: as above.
        unsafe { (self.room)(flows) }
    }

    /// From here on so many ends find room aside, 256 at most.
    pub fn aside_room(&mut self, ends: u32) {
        // SAFETY: as above.
        unsafe { (self.aside_room)(ends) }
    }

    /// See `host.c`.
    pub fn answers(&self) -> &[u8] {
        self.bytes(self.answers)
    }

    /// Takes what is in the ring.
    pub fn take_ring(&mut self) -> Vec<u8> {
        let taken = self.ring().to_vec();
        // SAFETY: as above.
        unsafe { (self.empty)(0) }
        taken
    }

    /// Takes the ends that lie aside.
    pub fn take_aside(&mut self) -> Vec<u8> {
        let taken = self.aside().to_vec();
        // SAFETY: as above.
        unsafe { (self.empty_aside)(0) }
        taken
    }

    /// What is in the ring: see `host.c`.
    pub fn ring(&self) -> &[u8] {
        self.bytes(self.ring)
    }

    /// Ends that lie aside.
    pub fn aside(&self) -> &[u8] {
        self.bytes(self.aside)
    }

    pub fn flows(&self) -> &[u8] {
        self.bytes(self.flows)
    }

    fn bytes(&self, which: Bytes) -> &[u8] {
        let mut length = 0;
        // SAFETY: a static array of the object, of which so many bytes are filled; nothing changes it
        // while `&self` is lent.
        unsafe {
            let start = which(&raw mut length);
            std::slice::from_raw_parts(start, length as usize)
        }
    }
}
