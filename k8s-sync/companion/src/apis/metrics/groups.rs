//! The two groups. Each is served where it is switched on, and has one provider in a cluster.

/// Group and version: for metrics of objects.
pub const CUSTOM: (&str, &str) = ("custom.metrics.k8s.io", "v1beta2");
/// Group and version: for metrics of anything.
pub const EXTERNAL: (&str, &str) = ("external.metrics.k8s.io", "v1beta1");

/// Which groups are served. By default none: others serve them, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// `CUSTOM`
    pub custom: bool,
    /// `EXTERNAL`
    pub external: bool,
}

impl Groups {
    /// Whether one of them is served.
    #[must_use]
    pub fn any(self) -> bool {
        self.custom || self.external
    }

    /// Group and version of each that is served.
    pub(super) fn served(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [(self.custom, CUSTOM), (self.external, EXTERNAL)].into_iter().filter(|(on, _)| *on).map(|(_, group)| group)
    }
}
