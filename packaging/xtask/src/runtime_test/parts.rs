//! Which tests a container runtime is for. docs/limits.md says what came of them.

use super::runtime::Runtime;

/// Whose tests they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Containerd,
    Docker,
    /// They need servers that `cargo xtask l7-test` fetches, and are its.
    Fetched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tests {
    /// What continuous integration runs, too.
    Usual,
    /// Behind a feature of their package: not every machine can run them.
    Feature(&'static str),
}

#[derive(Debug)]
pub(super) struct Part {
    pub package: &'static str,
    pub test: &'static str,
    pub kind: Kind,
    pub tests: Tests,
    /// Only with this version or a newer one.
    since: Option<(u32, u32)>,
    /// What it tests is up to the runtime.
    is_of_runtime: bool,
}

const fn of_runtime(package: &'static str, test: &'static str) -> Part {
    Part { package, test, kind: Kind::Containerd, tests: Tests::Usual, since: None, is_of_runtime: true }
}

const fn behind(feature: &'static str, test: &'static str) -> Part {
    Part { tests: Tests::Feature(feature), ..of_runtime("e2e", test) }
}

/// The testbed's containerd runs the containers, and whichever it is makes no difference.
const fn beside(test: &'static str) -> Part {
    Part { is_of_runtime: false, ..of_runtime("e2e", test) }
}

const PARTS: &[Part] = &[
    of_runtime("shim-plugin", "containerd"),
    of_runtime("e2e", "runtimes"),
    of_runtime("e2e", "lost_ends"),
    of_runtime("e2e", "last_words"),
    of_runtime("e2e", "early"),
    of_runtime("e2e", "lifecycle"),
    of_runtime("e2e", "names"),
    of_runtime("e2e", "node"),
    of_runtime("e2e", "two_containerds"),
    behind("images", "images"),
    Part { since: Some((2, 0)), ..behind("sandboxes", "sandboxes") },
    Part { kind: Kind::Docker, ..behind("docker", "docker") },
    beside("companion"),
    beside("demo"),
    beside("descriptors"),
    beside("doctor"),
    beside("first_line"),
    beside("forwarding"),
    beside("left_out"),
    beside("http2"),
    beside("late_reads"),
    beside("layouts"),
    beside("mysql"),
    beside("neighbour"),
    beside("networks"),
    beside("node_addresses"),
    beside("poor_nodes"),
    beside("postgresql"),
    beside("quota"),
    beside("redis"),
    beside("replay_tshark"),
    beside("report"),
    beside("routes"),
    beside("rules"),
    beside("sandboxed"),
    Part { kind: Kind::Fetched, is_of_runtime: false, ..behind("kafka", "kafka") },
    Part { is_of_runtime: false, ..behind("storms", "storms") },
    beside("stuck_reads"),
    beside("tap"),
    beside("timeline"),
    beside("tls"),
    beside("truth"),
    beside("websocket"),
    beside("kubernetes"),
    // A kubelet asks for pods by CRI.
    of_runtime("e2e", "kubernetes_nodes"),
];

/// Those that a runtime is for, or all of them.
pub(super) fn all(beside_too: bool) -> impl Iterator<Item = &'static Part> {
    PARTS.iter().filter(move |part| part.is_of_runtime || beside_too)
}

impl Part {
    /// What it needs and this runtime does not have.
    pub(super) fn missing(&self, runtime: &Runtime) -> Option<String> {
        let (major, minor) = self.since?;
        (runtime.version < (major, minor)).then(|| format!("needs containerd {major}.{minor}"))
    }

    /// Whether it makes sandboxes that are no containers.
    pub(super) fn wants_sandboxes(&self) -> bool {
        self.tests == Tests::Feature("sandboxes")
    }
}

#[cfg(test)]
mod tests {
    use super::PARTS;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn each_end_to_end_test_is_in_the_table() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e/tests");
        let files = std::fs::read_dir(dir).expect("the tests");
        let files: BTreeSet<String> = files
            .map(|file| file.expect("a file").file_name().to_string_lossy().trim_end_matches(".rs").to_owned())
            .collect();
        let of_e2e = PARTS.iter().filter(|part| part.package == "e2e");
        assert_eq!(of_e2e.map(|part| part.test.to_owned()).collect::<BTreeSet<String>>(), files);
    }
}
