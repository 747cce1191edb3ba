//! What the table says of itself, for the agent's own metrics.

use crate::cluster::names::ClusterNames;
use crate::cluster::object::Resource;
use crate::metrics::TableMetric;
use std::sync::atomic::{AtomicU64, Ordering};

impl ClusterNames {
    /// Sizes and what did not fit.
    #[must_use]
    pub fn metrics(&self) -> Vec<TableMetric> {
        let stats = &self.shared.stats;
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let objects = |resource: Resource| value(&stats.objects[resource as usize]);
        let refused = stats.refused.iter().map(value).sum::<u64>() + value(&stats.holds_refused);
        let metric = |name, help, value| TableMetric { name, help, value };
        vec![
            metric("pilotfish_cluster_pods", "Pods in the table of the cluster's names.", objects(Resource::Pods)),
            metric("pilotfish_cluster_services", "Services in it.", objects(Resource::Services)),
            metric("pilotfish_cluster_endpointslices", "EndpointSlices in it.", objects(Resource::EndpointSlices)),
            metric("pilotfish_cluster_nodes", "Nodes in it.", objects(Resource::Nodes)),
            metric("pilotfish_cluster_jobs", "Jobs of CronJobs in it.", objects(Resource::Jobs)),
            metric(
                "pilotfish_cluster_endpoints",
                "Endpoints of Services, present or of late.",
                value(&stats.endpoints),
            ),
            metric(
                "pilotfish_cluster_holds",
                "Spans of time in which it is known who held an address or a port.",
                value(&stats.holds),
            ),
            metric(
                "pilotfish_cluster_workloads",
                "Workloads that pods belong to, counted once a minute.",
                value(&stats.workloads),
            ),
            metric(
                "pilotfish_cluster_refused_total",
                "Objects and holds not taken in because the table was full; what they name stays unknown.",
                refused,
            ),
            metric(
                "pilotfish_cluster_evicted_total",
                "Past holds dropped early because their address had too many.",
                value(&stats.holds_evicted),
            ),
        ]
    }
}
