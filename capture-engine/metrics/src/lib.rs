//! Golden metrics: joins what the pipeline observed with names, adds it up per edge, and writes it
//! out for scrapers and for people.
//!
//! One thread writes (`Golden`, the `flow_model::Sink` of the pipeline), any number read
//! (`Reader`), and neither waits for the other: series are atomics, and the list of them is swapped
//! in as a whole. Sums stay right whatever happens: a series that does not fit under its family's
//! cap loses its labels, not its counts.
//!
//! Leaves naming to an implementation of `flow_model::Names`, the serving of what it renders to
//! `agentd`, and never reads the clock.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod cluster;
mod details;
mod ends;
mod exchanges;
mod exposition;
mod extras;
mod families;
mod golden;
mod histogram;
mod label_sets;
mod labels;
mod losses;
mod observers;
mod parts;
mod proto;
mod routes;
mod rows;
mod saved;
mod series;
mod served;
mod server_name;
mod shares;
mod snapshot;
mod table;
mod tap;
mod texts;
mod view;
mod waiting;

pub use agent_api::{By, EdgeRow, Golden as Figures, LossRow, PartRow, Party, WorkloadRow};
pub use cluster::{Cluster, ClusterView, Covered, Nodes};
pub use details::{CodeDetail, EdgeDetail, Pair, ProtocolDetail, TransportDetail};
pub use exposition::{Exposition, Format, Histograms, Kind, Known, NodePage, SelfMetric};
pub use families::failed;
pub use golden::{Config, FlowCache, Golden};
pub use histogram::{CLASSIC, Histogram, HistogramSnapshot, SCHEMA, ZERO_THRESHOLD};
pub use labels::{End, OVERFLOW, Reporter, UNKNOWN};
pub use losses::{Loss, Losses};
pub use observers::{Feed, Observer};
pub use parts::Parts;
pub use rows::{Request, RowKey, RowValue};
pub use saved::Saved;
pub use series::Edge;
pub use served::{Answering, Belongs, Rate, Sees, Served};
pub use snapshot::{Reader, Snapshot};
pub use tap::{Gap, MOST_TAPS, Tap, TapQuery, TapReader, Tapped, Taps, Told, TooManyTaps};
pub use view::{Frozen, Recent, View};
