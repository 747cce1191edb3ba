//! What happened to this node's containers, and what each end of one cut: a ring of events of a
//! bounded size, and requests without an answer joined to the exits that they belong to.

mod api;
mod cuts;
mod details;
mod gauge;
mod history;
mod kept;
mod probes;
mod probing;
mod renames;
mod retries;
mod ring;
mod searches;
mod storms;
mod throttling;
mod totals;
mod unanswered;
mod watch;

pub use api::{ApiWatch, is_api_server};
pub use history::{Heard, History, now};
pub use kept::TimelineFile;
pub use probes::ProbeWatch;
pub use retries::RetryWatch;
pub use ring::Timeline;
pub use searches::SearchWatch;
pub use storms::StormWatch;
pub use watch::watch;
