//! Whether hostNetwork containers and the node's services can be observed: tried on the cgroup of this very process.

use super::line::Line;
use super::line::Verdict::{FallsBack, Ok as Fine};
use crate::exit::in_full;
use crate::run::containers::{find_hierarchy, services_of};
use crate::run::mountinfo::mounts;
use capture_engine::attach::CgroupLinks;
use capture_engine::kernel::Kernel;
use flow_model::Slot;
use netns_scanner::deadline::Deadlines;
use std::fs;
use std::path::Path;

const WHAT: &str = "host network";
const WITHOUT: &str = "hostNetwork pods and the node's services are not observed; their ports are named by whoever has them when the agent looks";

pub fn line(is_wanted: bool, kernel: Option<&Kernel>) -> Line {
    if !is_wanted {
        return Line::new(WHAT, Fine, "not observed: attach.node is false", "");
    }
    let Some(kernel) = kernel else {
        return Line::new(WHAT, FallsBack, "not tried, as the programs did not load", "");
    };
    let hierarchy = match find_hierarchy(Path::new("/proc"), &Deadlines::default()) {
        Ok(hierarchy) => hierarchy,
        Err(reason) => {
            return Line::new(WHAT, FallsBack, reason.to_string(), format!("{WITHOUT}; cgroup v2 is what is needed"));
        }
    };
    let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let own = hierarchy.directory(&text("/proc/self/cgroup"));
    let path = own.unwrap_or_else(|_| hierarchy.mount().to_owned());
    if let Err(error) = CgroupLinks::attach(kernel, Slot(1), &path, None) {
        return Line::new(WHAT, FallsBack, in_full(error), WITHOUT);
    }
    let mount = hierarchy.mount().display();
    let services = match services_of(&hierarchy) {
        Ok(count) => format!("{count} services"),
        Err(reason) => format!("no services ({reason})"),
    };
    let version_one =
        mounts(&text("/proc/self/mountinfo")).any(|mount| mount.kind == "cgroup" && !mount.options.contains("name="));
    if version_one {
        let found = format!("attaches to cgroups at {mount}, which are beside those of version 1; {services}");
        let remedy =
            "containers that the runtime puts into version 1 only are shown as `unobserved`: boot with cgroup v2 alone";
        return Line::new(WHAT, FallsBack, found, remedy);
    }
    Line::new(WHAT, Fine, format!("attaches to cgroups at {mount}: hostNetwork containers, {services}"), "")
}
