//! `cargo xtask`: everything a developer runs more than once. The measurements and the demo run the
//! real agent against the testbed; they link nothing of it.
#![forbid(unsafe_code)]

mod arch;
mod bench;
mod cluster;
mod command;
mod console;
mod cross;
mod demo;
mod demo_k8s;
mod found;
mod fuzz;
mod image;
mod kernel_test;
mod l7_test;
mod map_test;
mod package;
mod runtime_test;
mod same;
mod size;
mod test_program;
mod vm_test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Developer's commands of Pilotfish", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent against real containers and show who calls whom
    Demo(demo::Options),
    /// The same in a Kubernetes cluster of two nodes, with an agent on each
    DemoK8s(demo_k8s::Options),
    /// Start, look at or remove a Kubernetes cluster on this machine
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Measure what docs/benchmarks.md states
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Load and run the kernel programs on Debian's kernels, under qemu
    KernelTest(kernel_test::Options),
    /// Look at the companion's service map in a Chromium without a screen, and measure its frames
    MapTest(map_test::Options),
    /// Make the deb and the rpm, into target/package
    Package(package::Options),
    /// Make the image of the companion or of the agent, an OCI archive, into target/package
    Image(image::Options),
    /// Weigh the crates in the program of the packages, and the files of a deb
    Size(size::Options),
    /// Install the deb in a virtual machine with systemd and containerd, and tell its life there
    VmTest(vm_test::Options),
    /// Run the tests that meet a container runtime with others of them, with Docker, or in a virtual machine
    RuntimeTest(runtime_test::Options),
    /// Run the tests of a protocol that need a server and a client that are no packages of Debian
    L7Test(l7_test::Options),
    /// Compare what two programs make of the same captures
    Same(same::Options),
    /// Run each fuzz target for a bounded time
    Fuzz(fuzz::Options),
    /// Remove what runs that were killed have left behind
    Sweep,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    testbed::signals::catch()?;
    match cli.command {
        Command::Demo(options) => demo::run(&options),
        Command::DemoK8s(options) => demo_k8s::run(&options),
        Command::Cluster(command) => cluster::run(&command),
        Command::Bench(bench) => bench::run(&bench).map(|()| ExitCode::SUCCESS),
        Command::KernelTest(options) => kernel_test::run(&options).map(|()| ExitCode::SUCCESS),
        Command::MapTest(options) => map_test::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Package(options) => package::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Image(options) => image::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Size(options) => size::run(&options).map(|()| ExitCode::SUCCESS),
        Command::VmTest(options) => vm_test::run(&options).map(|()| ExitCode::SUCCESS),
        Command::RuntimeTest(options) => runtime_test::run(&options).map(|()| ExitCode::SUCCESS),
        Command::L7Test(options) => l7_test::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Same(options) => same::run(&options),
        Command::Fuzz(options) => fuzz::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Sweep => {
            for id in testbed::sweep::sweep()? {
                eprintln!("removed {id}");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
