//! Turns containerd task events into actions. Knows nothing of namespaces, BPF or Kubernetes.
//!
//! [`Registry`] is the pure part: task events, lists and reports go in, [`Action`]s come out.
//! [`Containerd`] is the thin task around it: it holds a connection to each containerd of the node,
//! and hands the actions to whoever opens and attaches. Opening a network namespace, attaching to it and asking an API
//! server for more names are left to others:
//!
//! ```no_run
//! # use shim_plugin::{Action, Config, Containerd, Report};
//! # use tokio_util::sync::CancellationToken;
//! # async fn perform(_: Action) -> Option<Report> { None }
//! # async fn agent() {
//! let (task, mut handle) = Containerd::new(Config::default());
//! let drain = CancellationToken::new();
//! let task = tokio::spawn(task.run(drain.clone()));
//! while let Some(action) = handle.actions.recv().await {
//!     // On a worker of its own in earnest: only actions about the same task or slot have to keep their order.
//!     if let Some(report) = perform(action).await {
//!         let _ = handle.reports.send(report).await;
//!     }
//! }
//! # let _ = task.await;
//! # }
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod action;
mod backoff;
mod claim;
mod client;
mod config;
mod container;
mod containerd;
mod counts;
mod decode;
mod docker;
mod early;
mod ended;
mod event;
mod labels;
mod leave;
mod link;
mod name;
mod news;
mod observe;
mod placing;
mod process;
mod registry;
mod retry;
mod slots;
mod status;

pub use action::{Action, Origin, Report};
pub use claim::{Claims, Taken};
pub use config::Config;
pub use container::{ContainerRef, LinkId, TaskId};
pub use containerd::{Containerd, Handle};
pub use counts::{Corrections, Counts, EventCounts, LinkCounts, TaskGauges};
pub use early::Early;
pub use event::{ListedTask, TaskEvent};
pub use name::{Labels, LocalName, NameSource};
pub use news::{ExitStatus, Run, TaskNews};
pub use observe::{LeaveOut, OBSERVE, Observe, Why};
pub use registry::{Limits, Registry, TaskState, TaskView};
pub use slots::LAST_SLOT;
pub use status::{Connection, LinkStatus, Status, StatusReader};
