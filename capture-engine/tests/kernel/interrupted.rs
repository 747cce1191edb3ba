//! A machine that is suspended, or a person with job control, while the programs are being verified.

use super::frames::load;
use capture_engine::kernel::KernelConfig;
use std::process::Command;

#[test]
fn stopping_and_going_on_while_the_programs_load_is_no_refusal() {
    let stop_and_go = "for i in $(seq 30); do kill -STOP $PPID; kill -CONT $PPID; sleep 0.01; done";
    let mut shell = Command::new("sh").args(["-c", stop_and_go]).spawn().expect("a shell");
    let mut loaded = 0;
    while shell.try_wait().expect("wait").is_none() {
        drop(load(&KernelConfig { ring_bytes: 4096, flows: 16, ..KernelConfig::default() }));
        loaded += 1;
    }
    assert!(loaded > 0, "the shell was gone before the first load");
}
