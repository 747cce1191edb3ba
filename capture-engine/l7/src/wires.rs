/// Protocols that are read. One that is not is recognised all the same, and left alone from there on:
/// so it is taken for no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wires(pub(crate) u32);

impl Wires {
    /// All of them.
    pub const ALL: Wires = Wires(u32::MAX);
}

impl Default for Wires {
    fn default() -> Wires {
        Wires::ALL
    }
}
