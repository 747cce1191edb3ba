//! The kernel programs on a real kernel, as root. `turns` sends single frames through them with
//! `BPF_PROG_TEST_RUN`; `live` attaches them to a veth pair and talks over sockets; `cost`
//! measures.

mod bed;
mod cost;
mod frames;
mod interrupted;
mod live;
mod node;
mod several;
mod turns;
