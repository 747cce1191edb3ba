use shim_plugin::{Action, Config, Containerd, Handle, Origin, Report, Status, StatusReader};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A containerd of the test's own: root, state, socket, runc's state and cgroups are named after its directory.
pub struct Bed {
    dir: TempDir,
    name: String,
    containerd: Option<Child>,
    removed: bool,
}

impl Bed {
    pub fn new() -> Bed {
        let dir = tempfile::Builder::new().prefix("pfc").tempdir().expect("a temporary directory");
        let name = dir.path().file_name().and_then(|name| name.to_str()).expect("a name").replace('.', "-");
        for inside in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(dir.path().join("rootfs").join(inside)).expect("a directory");
        }
        fs::copy("/bin/busybox", dir.path().join("rootfs/bin/busybox")).expect("busybox-static is installed");
        for applet in ["sleep", "true"] {
            symlink("busybox", dir.path().join("rootfs/bin").join(applet)).expect("a link");
        }
        let at = dir.path().display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{at}/containerd.sock\"\n[ttrpc]\naddress = \"{at}/containerd.ttrpc\"\n"
        );
        fs::write(dir.path().join("config.toml"), config).expect("a file");
        Bed { name, containerd: None, removed: false, dir }
    }

    pub fn started() -> Bed {
        let mut bed = Bed::new();
        bed.start();
        bed
    }

    pub fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).expect("a log");
        let mut command = Command::new("containerd");
        command.arg("-c").arg(self.dir.path().join("config.toml")).stdout(Stdio::null()).stderr(log);
        self.containerd = Some(command.spawn().expect("containerd is installed"));
        wait("containerd answers", || self.ctr("pfc", &["version"]).is_ok());
    }

    pub fn kill(&mut self) {
        if let Some(mut containerd) = self.containerd.take() {
            containerd.kill().expect("ours");
            containerd.wait().expect("ours");
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    pub fn runc_root(&self) -> String {
        self.dir.path().join("runc").display().to_string()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub fn ctr(&self, namespace: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("ctr");
        let output = command.arg("-a").arg(self.socket()).args(["-n", namespace]).args(args).output().expect("ctr");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn ctr_run(&self, namespace: &str, id: &str, more: &[&str], command: &[&str]) {
        let (runc, rootfs) = (self.runc_root(), self.dir.path().join("rootfs").display().to_string());
        let cgroup = format!("/{}/{id}", self.name);
        let own = ["run", "--null-io", "--rootfs", "--runc-root", &runc, "--cgroup", &cgroup];
        self.ctr(namespace, &[&own, more, &[&rootfs, id], command].concat()).expect("a container ran");
    }

    /// Starts a container that sleeps.
    pub fn run(&self, namespace: &str, id: &str, more: &[&str]) {
        self.ctr_run(namespace, id, &[&["--detach"], more].concat(), &["/bin/sleep", "1000000"]);
    }

    /// Runs a container that ends at once, and removes it.
    pub fn run_briefly(&self, namespace: &str, id: &str) {
        self.ctr_run(namespace, id, &["--rm"], &["/bin/true"]);
    }

    /// Leaves a container without a task.
    pub fn create(&self, namespace: &str, id: &str) {
        self.run(namespace, id, &[]);
        self.ctr(namespace, &["task", "kill", "--signal", "SIGKILL", id]).expect("it ran");
        wait("its task is removed", || self.ctr(namespace, &["task", "rm", id]).is_ok());
    }

    pub fn pid(&self, namespace: &str, id: &str) -> u32 {
        let tasks = self.ctr(namespace, &["task", "ls"]).expect("a list");
        let row = tasks.lines().find(|row| row.split_whitespace().next() == Some(id)).expect("the task is listed");
        row.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a pid")
    }

    pub fn remove(&self, namespace: &str, id: &str) {
        let _ = self.ctr(namespace, &["task", "kill", "--signal", "SIGKILL", id]);
        wait("the container is removed", || {
            let _ = self.ctr(namespace, &["task", "rm", "--force", id]);
            self.ctr(namespace, &["container", "rm", id]).is_ok()
        });
    }

    /// Sends a signal to containerd alone.
    pub fn signal(&self, signal: &str) {
        let pid = self.containerd.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    fn remove_everything(&mut self) {
        if std::mem::replace(&mut self.removed, true) || !self.socket().exists() {
            return;
        }
        match self.containerd {
            Some(_) => self.signal("-CONT"),
            // A test that failed after it killed containerd: its containers are still there.
            None => self.start(),
        }
        for namespace in self.ctr("pfc", &["namespace", "ls", "-q"]).unwrap_or_default().split_whitespace() {
            for id in self.ctr(namespace, &["container", "ls", "-q"]).unwrap_or_default().split_whitespace() {
                self.remove(namespace, id);
            }
        }
        self.kill();
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&self.name));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.name));
    }

    /// Removes everything, and fails if a process or a mount is left.
    pub fn end(mut self) {
        self.remove_everything();
        let at = self.dir.path().display().to_string();
        let left = || {
            let mounts = fs::read_to_string("/proc/self/mounts").expect("procfs");
            let mounts = mounts.lines().filter(|line| line.contains(&at)).map(str::to_owned);
            let processes = fs::read_dir("/proc").expect("procfs").flatten().filter_map(|process| {
                let line = fs::read(process.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                line.contains(&at).then_some(line)
            });
            mounts.chain(processes).collect::<Vec<_>>()
        };
        wait_or("nothing is left", || left().is_empty(), || format!("{:?}", left()));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.remove_everything();
    }
}

pub fn wait(what: &str, condition: impl FnMut() -> bool) {
    wait_or(what, condition, String::new);
}

pub fn wait_or(what: &str, mut condition: impl FnMut() -> bool, tell: impl FnOnce() -> String) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited {PATIENCE:?}: {what} {}", tell());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What was done so far, as the performer saw it.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Container ids by the slot they were attached through.
    pub attached: BTreeMap<u32, String>,
    pub names: BTreeMap<u32, String>,
    pub attaches: usize,
    pub detaches: usize,
    /// When each container was asked to be opened, and how it was known.
    pub asked: BTreeMap<String, (SystemTime, Origin)>,
}

/// The task under test with a performer that reads the namespaces' identities and attaches nothing.
pub struct Agent {
    pub status: StatusReader,
    done: Arc<Mutex<Done>>,
    drain: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Agent {
    pub fn start(config: Config) -> Agent {
        let (task, Handle { mut actions, reports, status, .. }) = Containerd::new(config);
        let (done, drain) = (Arc::new(Mutex::new(Done::default())), CancellationToken::new());
        let (seen, stop) = (done.clone(), drain.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let task = tokio::spawn(task.run(stop));
                let mut opened = BTreeMap::new();
                while let Some(action) = actions.recv().await {
                    let report = perform(action, &mut opened, &mut seen.lock().expect("not poisoned"));
                    if let Some(report) = report {
                        let _ = reports.send(report).await;
                    }
                }
                task.await.expect("the task ends without a panic");
            });
        });
        Agent { status, done, drain, thread: Some(thread) }
    }

    pub fn done(&self) -> Done {
        self.done.lock().expect("not poisoned").clone()
    }

    pub fn read(&self) -> Status {
        self.status.read()
    }

    pub fn wait(&self, what: &str, mut condition: impl FnMut(&Done, &Status) -> bool) {
        wait_or(what, || condition(&self.done(), &self.read()), || format!("{:?} {:?}", self.done(), self.read()));
    }
}

fn perform(action: Action, opened: &mut BTreeMap<u64, String>, done: &mut Done) -> Option<Report> {
    match action {
        Action::OpenNetns { task, container, pid, origin } => {
            done.asked.insert(container.id.to_string(), (SystemTime::now(), origin));
            opened.insert(task.0, container.id.to_string());
            Some(match fs::metadata(format!("/proc/{pid}/ns/net")) {
                Ok(file) => {
                    let netns = flow_model::NetnsId { dev: file.dev(), ino: file.ino() };
                    Report::Opened { task, netns, cookie: None, began: None }
                }
                Err(error) => Report::OpenFailed { task, reason: error.to_string() },
            })
        }
        Action::Attach { slot, task, name, .. } => {
            done.attaches += 1;
            done.attached.insert(slot.0, opened.remove(&task.0).unwrap_or_default());
            done.names.extend(name.map(|name| (slot.0, name.workload.name.to_string())));
            Some(Report::Answered { slot })
        }
        Action::Tell(_) => None,
        Action::Identify { slot, name } => {
            done.names.insert(slot.0, name.workload.name.to_string());
            None
        }
        Action::Detach { slot, .. } => {
            done.detaches += 1;
            done.attached.remove(&slot.0);
            done.names.remove(&slot.0);
            None
        }
        Action::Close { task } => {
            opened.remove(&task.0);
            None
        }
        Action::LookAtProcess { task, pid, .. } => {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(Report::Gone { task })
        }
        Action::AttachCgroup { .. } => unreachable!("the node is not observed here"),
        Action::Observe { .. } => unreachable!("nobody asks for it here"),
        Action::FetchLabels { .. } => unreachable!("never handed out"),
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.drain.cancel();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the task drains");
        }
    }
}

/// The task's settings for a bed: its socket behind one that does not exist, and the test's own
/// namespace as the node's.
pub fn config(bed: &Bed) -> Config {
    let file = fs::metadata("/proc/self/ns/net").expect("procfs");
    Config {
        sockets: vec!["/nonexistent/containerd.sock".into(), bed.socket()],
        node: Some(flow_model::NetnsId { dev: file.dev(), ino: file.ino() }),
        ..Config::default()
    }
}
