//! Samples to findings. Pure: what is read, when, and from where the thresholds come is others'.

mod api;
mod closed;
mod conntrack;
mod cut;
mod dead;
mod listen;
mod memcg;
mod mtu;
mod oom;
mod ports;
mod probe;
mod retry;
mod search;
mod selfcall;
mod storm;
mod throttled;
mod udp;

pub use api::{Opens, api_opened, api_polled, api_reopened, asked_much, opened_much};
pub use closed::closed_watch;
pub use conntrack::conntrack_full;
pub use cut::{cut_by_exit, term_ignored};
pub use dead::dead_peer;
pub use listen::listen_overflow;
pub use memcg::{MemoryCgroups, memcg_dying, slow_read};
pub use mtu::{mtu_hole, outside_holes};
pub use oom::oom_inside;
pub use ports::{PortRange, ports_gone};
pub use probe::{probe_kill, probe_slow, recent, with_throttling};
pub use retry::{Lookup, Retries, dns_retry};
pub use search::{Searches, dns_search};
pub use selfcall::{asks_itself, self_call};
pub use storm::{Usual, retry_storm};
pub use throttled::{beside_others, cpu_throttled};
pub use udp::udp_drop;
