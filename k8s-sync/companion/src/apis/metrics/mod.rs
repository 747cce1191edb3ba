//! `custom.metrics.k8s.io` and `external.metrics.k8s.io`: figures for the HPA's controller. What a
//! request asks for, and its answer. Knows no connection and no clock.

mod announce;
mod ask;
mod groups;
mod told;

pub use ask::{Ask, Asked};
pub use groups::{CUSTOM, EXTERNAL, Groups};
pub use told::answer;
