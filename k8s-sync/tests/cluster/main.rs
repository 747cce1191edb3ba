//! What the table of the cluster answers as the API tells of objects that come, change and go.

mod bed;
mod joined;
mod leaving;
mod lists;
mod model;
mod owners;
mod probes;
mod services;
mod snapshot;
mod times;
