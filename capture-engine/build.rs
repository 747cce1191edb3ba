//! Builds the kernel programs with clang and leaves the objects in `OUT_DIR` for `load.rs`,
//! `alarm.rs` and `drops.rs` of `src/kernel` to embed. With `PILOTFISH_NO_BPF=1` it needs no clang:
//! what is built can then be checked and linted, and says so when it should load.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-env-changed=LLVM_STRIP");
    println!("cargo::rerun-if-env-changed=PILOTFISH_NO_BPF");
    println!("cargo::rustc-check-cfg=cfg(no_bpf)");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let without = without_programs();
    if without {
        println!("cargo::rustc-cfg=no_bpf");
    }
    let objects = [
        ("pilotfish", "PILOTFISH_BPF_OBJECT"),
        ("alarm", "PILOTFISH_ALARM_OBJECT"),
        ("drops", "PILOTFISH_DROPS_OBJECT"),
    ];
    for (name, variable) in objects {
        let object = out.join(format!("{name}.bpf.o"));
        if !without {
            compile(Path::new(&format!("bpf/{name}.c")), &object);
        } else if let Err(error) = std::fs::write(&object, []) {
            eprintln!("write {}: {error}", object.display());
            exit(1);
        }
        println!("cargo::rustc-env={variable}={}", object.display());
    }
}

/// Nobody gets it by accident: a missing clang alone is an error, and so is the switch in a release.
fn without_programs() -> bool {
    let wanted = std::env::var("PILOTFISH_NO_BPF").is_ok_and(|value| !["", "0"].contains(&value.as_str()));
    if wanted && std::env::var("PROFILE").as_deref() == Ok("release") {
        eprintln!("PILOTFISH_NO_BPF is set: a release without the kernel programs could not observe anything");
        exit(1);
    }
    wanted
}

fn compile(source: &Path, object: &Path) {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let strip = std::env::var("LLVM_STRIP").unwrap_or_else(|_| "llvm-strip".into());
    let mut build = Command::new(&clang);
    // -g for BTF: the kernel wants it for spin locks in maps and for functions that it verifies on their own.
    build.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-target", "bpf", "-mcpu=v3"]);
    // <asm/types.h> lies in the directory of the build machine's architecture on Debian and Ubuntu.
    let arch = std::env::var("HOST").unwrap_or_default();
    let arch = arch.split('-').next().unwrap_or_default();
    build.arg(format!("-I/usr/include/{arch}-linux-gnu")).arg("-c").arg(source).arg("-o").arg(object);
    // BTF names the source files: from the top of the tree, so that two checkouts give the same bytes.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    build.arg(format!("-fdebug-prefix-map={here}=capture-engine"));
    run(&mut build, &clang, "clang, libbpf-dev and linux-libc-dev");
    // DWARF goes, BTF stays.
    run(Command::new(&strip).arg("-g").arg(object), &strip, "llvm");
}

fn run(command: &mut Command, name: &str, packages: &str) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprintln!("{name} could not build the kernel programs (do the Debian packages {packages} lack?):");
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            exit(1);
        }
        Err(error) => {
            eprintln!("cannot run {name} ({error}): building the kernel programs needs the Debian packages {packages}");
            eprintln!("PILOTFISH_NO_BPF=1 builds without them, for checks and editors");
            exit(1);
        }
    }
}
