//! Lists the TCX programs on the interfaces of the network namespace that it runs in, as `interface
//! direction program-id`. For bpftool of Debian 12, which does not know them. Namespaces are
//! changed by whoever starts it (`nsenter`).
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use testbed::sys::{Tcx, tcx_programs};

#[allow(clippy::print_stdout, reason = "the list is this program's output")]
fn main() -> Result<()> {
    // Not from /sys/class/net: that is the mounter's namespace.
    for interface in nix::net::if_::if_nameindex().context("list the interfaces")?.iter() {
        let name = interface.name().to_string_lossy();
        for (direction, word) in [(Tcx::Ingress, "ingress"), (Tcx::Egress, "egress")] {
            for id in tcx_programs(interface.index(), direction).with_context(|| format!("{name} {word}"))? {
                println!("{name} {word} {id}");
            }
        }
    }
    Ok(())
}
