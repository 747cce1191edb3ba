//! Compiles the iterator's program with clang for the BPF target, and takes its bare instructions
//! out of the object; they are embedded, so a node needs no clang. With `PILOTFISH_NO_BPF=1` (see
//! capture-engine's build.rs) nothing is compiled, and the iterator says so.

use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "bpf/task_socks.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=PILOTFISH_NO_BPF");
    println!("cargo::rustc-check-cfg=cfg(no_bpf)");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("task_socks.bpf.o");
    // capture-engine's build.rs refuses the switch in a release.
    if std::env::var("PILOTFISH_NO_BPF").is_ok_and(|value| !["", "0"].contains(&value.as_str())) {
        std::fs::write(out.with_file_name("task_socks.insns"), []).expect("OUT_DIR can be written");
        println!("cargo::rustc-cfg=no_bpf");
        return;
    }
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let objcopy = std::env::var("LLVM_OBJCOPY").unwrap_or_else(|_| "llvm-objcopy".to_owned());
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-env-changed=LLVM_OBJCOPY");
    // Debian keeps <asm/*.h> in the build machine's multiarch folder, which a BPF target does not
    // search by itself. Whatever the agent is built for, the program is the same.
    let host = std::env::var("HOST").unwrap_or_default();
    let machine = host.split('-').next().unwrap_or_default();
    run(Command::new(&clang)
        .args(["-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"])
        .arg(format!("-I/usr/include/{machine}-linux-gnu"))
        .args(["-c", SOURCE, "-o"])
        .arg(&out));
    run(Command::new(&objcopy)
        .args(["-O", "binary", "--only-section=iter/task_file"])
        .arg(&out)
        .arg(out.with_file_name("task_socks.insns")));
}

fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{command:?} ended with {status}"),
        Err(error) => {
            panic!("{command:?} did not start ({error}): install clang, llvm and libbpf-dev (scripts/setup.sh does)")
        }
    }
}
