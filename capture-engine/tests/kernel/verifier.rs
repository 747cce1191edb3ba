//! What the verifier goes through. It is most of what a start costs, and within a CPU quota nobody of the
//! process runs meanwhile.

use crate::frames::load;
use capture_engine::kernel::KernelConfig;

/// 35,300 at the most, on 6.18. A function that is verified for each way through its callers made it 227,000.
const MOST: u32 = 60_000;

#[test]
fn the_verifier_has_little_to_go_through() {
    let kernel = load(&KernelConfig { ring_bytes: 4096, flows: 16, ..KernelConfig::default() });
    kernel.load_node().expect("the program for the node's own sockets");
    let programs = kernel.programs().expect("programs");
    assert_eq!(programs.len(), 4);
    for program in programs {
        eprintln!("{}: {} instructions", program.name, program.verified);
        assert!((1000..=MOST).contains(&program.verified), "{}: {}", program.name, program.verified);
    }
}
