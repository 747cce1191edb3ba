//! The architectures that the agent is made for, and what others call them. Everything that differs
//! between them is in one table.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

#[derive(Debug)]
pub(crate) struct Facts {
    /// As the kernel, rpm, QEMU and Rust say it.
    pub name: &'static str,
    /// As Debian says it.
    pub deb: &'static str,
    pub rust_target: &'static str,
    /// Cross tools begin with it, and Debian's directories of libraries are called by it.
    pub gnu: &'static str,
    /// The dynamic loader, as programs name it.
    pub loader: &'static str,
    /// `e_machine` of elf(5).
    pub elf_machine: u16,
    /// QEMU's machine and processor.
    pub machine: &'static [&'static str],
    /// That machine's serial line, as Linux calls it.
    pub console: &'static str,
    /// Debian's package of that QEMU.
    pub qemu_package: &'static str,
}

const X86_64: Facts = Facts {
    name: "x86_64",
    deb: "amd64",
    rust_target: "x86_64-unknown-linux-gnu",
    gnu: "x86_64-linux-gnu",
    loader: "/lib64/ld-linux-x86-64.so.2",
    elf_machine: 62,
    // Without cx16: QEMU 7.2 now and then returns from cmpxchg16b with broken flags (a panic shows
    // the low half of a pointer in EFLAGS), and the slab allocator uses it where the CPU has it.
    machine: &["-cpu", "Nehalem,-cx16"],
    console: "ttyS0",
    qemu_package: "qemu-system-x86",
};

const AARCH64: Facts = Facts {
    name: "aarch64",
    deb: "arm64",
    rust_target: "aarch64-unknown-linux-gnu",
    gnu: "aarch64-linux-gnu",
    loader: "/lib/ld-linux-aarch64.so.1",
    elf_machine: 183,
    // The processor of AWS's Graviton 2. It knows pages of 16 KiB, which Cortex-A72 does not.
    machine: &["-machine", "virt,gic-version=3", "-cpu", "neoverse-n1"],
    console: "ttyAMA0",
    qemu_package: "qemu-system-arm",
};

impl Arch {
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    pub fn facts(self) -> &'static Facts {
        match self {
            Arch::X86_64 => &X86_64,
            Arch::Aarch64 => &AARCH64,
        }
    }

    /// `wanted`, or else this machine's.
    ///
    /// # Errors
    /// When this machine is of a third kind.
    pub fn or_this(wanted: Option<Arch>) -> Result<Arch> {
        let this = Arch::ALL.into_iter().find(|arch| arch.is_of_this_machine());
        wanted.or(this).with_context(|| {
            let here = std::env::consts::ARCH;
            format!("this machine is {here}, and the agent is made for x86_64 and aarch64: choose one with --arch")
        })
    }

    pub fn is_of_this_machine(self) -> bool {
        self.facts().name == std::env::consts::ARCH
    }

    /// # Errors
    /// When the program is of another architecture.
    pub fn check(self, program: &Path) -> Result<()> {
        let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
        let Some(machine) = elf_machine(&bytes) else {
            bail!("{} is no program of 64 bits (ELF, little endian)", program.display());
        };
        let Facts { name, elf_machine, .. } = self.facts();
        ensure!(machine == *elf_machine, "{} is not made for {name}", program.display());
        Ok(())
    }
}

/// Of a program of 64 bits, little endian.
fn elf_machine(bytes: &[u8]) -> Option<u16> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    bytes.get(18..)?.first_chunk().map(|machine| u16::from_le_bytes(*machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_of_two_architectures() {
        let [one, other] = Arch::ALL.map(Arch::facts);
        assert_ne!(one.name, other.name);
        assert_ne!(one.deb, other.deb);
        assert_ne!(one.rust_target, other.rust_target);
        assert_ne!(one.loader, other.loader);
        assert_ne!(one.elf_machine, other.elf_machine);
        for Facts { name, rust_target, gnu, .. } in [one, other] {
            assert_eq!(rust_target.split('-').next(), Some(*name));
            assert_eq!(gnu.split('-').next(), Some(*name));
        }
    }

    #[test]
    fn a_program_says_what_machine_it_is_for() {
        let mut head = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0";
        assert_eq!(elf_machine(&head), Some(AARCH64.elf_machine));
        head[18] = 62;
        assert_eq!(elf_machine(&head), Some(X86_64.elf_machine));
        assert_eq!(elf_machine(&head[..19]), None);
        head[4] = 1;
        assert_eq!(elf_machine(&head), None, "32 bits");
        assert_eq!(elf_machine(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn tests_run_as_programs_of_this_machine() -> Result<()> {
        let own = std::env::current_exe()?;
        for arch in Arch::ALL {
            assert_eq!(arch.check(&own).is_ok(), arch.is_of_this_machine());
        }
        Ok(())
    }
}
