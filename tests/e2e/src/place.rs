//! Places that are hard on an agent: it and `pilotfish check` are started in a mount namespace of
//! their own, below limits, with an account that may do little, behind a filter of system calls.
//! Nothing of it is seen outside.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use testbed::built_binary;

/// The shipped unit.
const UNIT: &str = include_str!("../../../systemd/pilotfish.service");
/// In a place the program is here: the account may not search the directory that it was built in.
const PROGRAM: &str = "/mnt/pilotfish";

/// Applies the unit's system call filter. Has no single quotes: a shell passes it on in some.
const FILTER: &str = include_str!("filter.py");

/// What surrounds the agent. As made, nothing.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Shell commands, run as root within the mount namespace.
    mounts: String,
    /// Words of prlimit(1).
    limits: Vec<String>,
    /// Capabilities that the unit's account is left with; root with all of them where None.
    account: Option<String>,
    is_filtered: bool,
}

impl Place {
    #[must_use]
    pub fn new() -> Place {
        Place::default()
    }

    /// Changes what is mounted, for the agent alone.
    #[must_use]
    pub fn mounts(mut self, script: impl AsRef<str>) -> Place {
        self.mounts += script.as_ref();
        self.mounts += "\n";
        self
    }

    /// A limit as prlimit(1) has it, `memlock=0`.
    #[must_use]
    pub fn limit(mut self, limit: &str) -> Place {
        self.limits.push(format!("--{limit}"));
        self
    }

    /// Not as root, but as the shipped unit has it: an account without rights and with the group
    /// root, no new privileges, and its capabilities but for `without`.
    pub fn as_the_unit(mut self, without: &[&str]) -> Result<Place> {
        let all = line_of_unit("AmbientCapabilities=").next().context("the unit names capabilities")?;
        let kept = all.split(' ').filter(|name| !without.contains(name));
        let kept: Vec<String> = kept.map(|name| name.to_lowercase().replace("cap_", "+")).collect();
        self.account = Some(format!("-all,{}", kept.join(",")));
        Ok(self)
    }

    /// Behind the system call filter of the shipped unit.
    #[must_use]
    pub fn filtered(mut self) -> Place {
        self.is_filtered = true;
        self
    }

    /// Words that start a program here: [`testbed::AgentOptions::under`].
    #[must_use]
    pub fn under(&self) -> Vec<String> {
        let Place { mounts, limits, account, is_filtered } = self;
        let script = format!(
            "{mounts}mount -t tmpfs -o mode=755 place /mnt\ntouch {PROGRAM}\nmount --bind \"$1\" {PROGRAM}\nshift\nexec {}\"$@\"",
            self.exec_words(limits, account.as_deref(), *is_filtered)
        );
        ["unshare", "--mount", "sh", "-ec", &script, "sh"].map(str::to_owned).to_vec()
    }

    fn exec_words(&self, limits: &[String], account: Option<&str>, is_filtered: bool) -> String {
        let mut words = String::new();
        if !limits.is_empty() {
            words += &format!("prlimit {} ", limits.join(" "));
        }
        if let Some(capabilities) = account {
            words += &format!(
                "setpriv --reuid 65534 --regid 65534 --groups 0 --no-new-privs --bounding-set {capabilities} \
                 --inh-caps {capabilities} --ambient-caps {capabilities} "
            );
        }
        if is_filtered {
            let lines: Vec<&str> = line_of_unit("SystemCallFilter=").collect();
            words += &format!("python3 -c '{FILTER}' '{}' ", lines.join("\n"));
        }
        words + PROGRAM + " "
    }

    /// `pilotfish check` with this configuration: whether it says that the agent can run, and its page.
    pub fn check(&self, config: &Path) -> Result<(bool, String)> {
        let mut words = self.under();
        let program: PathBuf = built_binary("pilotfish")?;
        words.push(program.display().to_string());
        let (first, rest) = words.split_first().context("words")?;
        let mut command = Command::new(first);
        command.args(rest).args(["check", "--config"]).arg(config);
        command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.output().context("run pilotfish check")?;
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) => Ok((true, page)),
            Some(77) => Ok((false, page)),
            other => bail!("check ended with {other:?}: {page}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

fn line_of_unit(key: &str) -> impl Iterator<Item = &'static str> {
    UNIT.lines().filter_map(move |line| line.strip_prefix(key))
}
