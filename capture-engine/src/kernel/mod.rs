//! The in-kernel half and its door to user space: loads the programs of `bpf/`, hands out stubs to
//! attach, reads the ring, samples and cleans the flow table. Knows nothing of interfaces or
//! namespaces; it leaves attaching to the `attach` module.

mod alarm;
mod convert;
mod drops;
mod load;
mod maps;
mod node;
mod object;
mod opening;
mod overrides;
mod ring;
mod sample;
mod stats;
pub mod stub;
mod sys;

pub use alarm::{Alarm, AlarmCounts, Alarmed};
pub use convert::frames;
pub use drops::{Dropped, Drops, DropsRoom};
pub use load::Kernel;
pub use maps::KernelConfig;
pub use object::LoadError;
pub use overrides::Overrides;
pub use ring::{Present, RingReader};
pub use sample::{Page, Sampler};
pub use stats::{KernelStats, MapMemory, ProgramInfo};
pub use stub::{NodePrograms, Programs, STUB_NAME, SharedStubs, Sockets, StubError, class_of};
