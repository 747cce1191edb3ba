//! Bounds that both ends keep. What exceeds one is counted where it is kept out.

use std::time::Duration;

/// The protocols that this version speaks, oldest and newest.
pub const PROTOCOLS: (u32, u32) = (1, 1);
/// A message on the wire; gRPC refuses a longer one.
pub const MESSAGE: usize = 1 << 20;
/// Entries of a part before they are compressed. What inflates to more is refused, so that a message
/// takes no more memory than it says.
pub const PART: usize = 512 << 10;
/// Bytes of entries after which a part is closed: one entry more fits into `PART`.
pub(crate) const PART_FULL: usize = PART - KEY - VALUE - 64;
/// What a companion may send before an agent has read it. The answer to a push goes behind names that
/// are on their way, so on a slow network it comes as late as these take.
pub(crate) const AHEAD: u32 = 256 << 10;
/// The name of a series: two ends, a Service and 16 labels of 128 bytes.
pub const KEY: usize = 4 << 10;
/// What a series has counted: a histogram with a count in each of its cells takes 9 KiB.
pub const VALUE: usize = 32 << 10;
/// Series of one agent: its cap of 10,000 a family is the exception; 300 in all is usual.
pub const SERIES: usize = 40_000;
/// Bytes of one agent's names and values.
pub const BYTES: usize = 32 << 20;
/// Series that ended and are remembered, so that a companion that missed it is told. One that missed
/// more gets everything anew.
pub const GONE: usize = 10_000;
/// Findings of one agent. More is one broken node, and not a list to read.
pub const FINDINGS: usize = 200;
/// Bytes of one of them, with its evidence and its remedy; a usual one has some 600.
pub const FINDING: usize = 8 << 10;
/// Bytes of all of them before they are compressed.
pub const FINDINGS_BYTES: usize = 256 << 10;
/// Other replicas of the companion that an agent pushes to; two or three are usual.
pub const REPLICAS: usize = 8;
/// Name of a node (RFC 1123), of a version, and of a reason to end.
pub const TEXT: usize = 253;

/// From one push to the next, unless the companion asks for another.
pub const PERIOD: Duration = Duration::from_secs(10);
/// Periods that a companion may ask for.
pub const PERIODS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Pushes that are missing before an agent is called silent, and answers before a stream is cut.
pub const MISSING: u32 = 3;
/// A connection, a greeting or an answer to it takes no longer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The first attempts after a cut are spread over this: 50 agents of a companion that was restarted
/// come back at five a second.
pub const SPREAD: Duration = Duration::from_secs(10);
/// An attempt that shows something else than the last one waits no longer.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// And no attempt waits longer than this.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
