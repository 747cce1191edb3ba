//! The kernel programs on a real kernel, as root. `turns` sends single frames through them with
//! `BPF_PROG_TEST_RUN`; `live` attaches them to a veth pair and talks over sockets; `cost`
//! measures; `scripts` runs the table of packet scripts; `full_ring` and `any_moment` add up; `alarm`
//! begins what looks like containers; `drops` loses packets; `verifier` bounds what a load costs.

mod alarm;
mod any_moment;
mod bed;
mod cost;
mod drops;
mod flood;
mod frames;
mod full_ring;
mod interrupted;
mod live;
mod node;
mod overrides;
#[path = "../script/mod.rs"]
mod script;
mod scripts;
mod several;
mod turns;
mod verifier;
mod walk;
