//! The iterator's program made fit for the running kernel: its instructions with the places of the
//! fields that it reads, found in the kernel's BTF.

use btf::{Btf, Member};

/// Instructions of `bpf/task_socks.bpf.c`, 8 bytes each.
const CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/task_socks.insns"));
/// `OFFSET_OF` of the program: the upper half of its constants.
const MARK: u32 = 0x7066_7363;
/// `BPF_LD | BPF_IMM | BPF_DW`: a 64-bit constant over two instructions.
const LOAD_CONSTANT: u8 = 0x18;

const FUNCTION: &str = "bpf_iter_task_file";
const COMMON: Member = ("sock", "__sk_common");
/// Where to find what the program's `enum field` names, in its order: a member, or a member of a member.
const FIELDS: [&[Member]; 22] = [
    &[("socket", "sk")],
    &[COMMON, ("sock_common", "skc_family")],
    &[COMMON, ("sock_common", "skc_state")],
    &[COMMON, ("sock_common", "skc_num")],
    &[COMMON, ("sock_common", "skc_dport")],
    &[COMMON, ("sock_common", "skc_daddr")],
    &[COMMON, ("sock_common", "skc_rcv_saddr")],
    &[COMMON, ("sock_common", "skc_v6_daddr")],
    &[COMMON, ("sock_common", "skc_v6_rcv_saddr")],
    &[COMMON, ("sock_common", "skc_net")],
    &[("sock", "sk_protocol")],
    &[("sock", "sk_ack_backlog")],
    &[("net", "ns"), ("ns_common", "inum")],
    &[("task_struct", "tgid")],
    &[("sock", "sk_cgrp_data"), ("sock_cgroup_data", "cgroup")],
    &[("cgroup", "kn")],
    &[("kernfs_node", "id")],
    &[("sock", "sk_max_ack_backlog")],
    &[COMMON, ("sock_common", "skc_ipv6only")],
    &[("mptcp_sock", "conn_list")],
    &[("mptcp_subflow_context", "node")],
    &[("mptcp_subflow_context", "tcp_sock")],
];

/// What the program does without: a kernel without cgroups (or before 5.15, which kept it in
/// another form) does not have it, or one without MPTCP. The offset is then 0, where no kernel has
/// any of these but the last two; without the list before them, these are not asked for.
const OPTIONAL: [&str; 5] = ["sk_cgrp_data", "cgroup", "conn_list", "node", "tcp_sock"];

/// Bit-fields: their place is told in bits.
const BITS: [&str; 1] = ["skc_ipv6only"];

/// Why the iterator's program does not fit the running kernel.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// Not BTF of version 1 in this machine's byte order, or an offset in it leads out of it.
    #[error("the kernel's BTF is cut short or of another version")]
    Btf,
    /// A function, or a member as `struct.member`, that the program cannot do without.
    #[error("this kernel has no {0}")]
    Missing(String),
    /// There are no instructions to load in this build.
    #[error("this program was built without the iterator (PILOTFISH_NO_BPF was set)")]
    NotBuilt,
}

/// Instructions to load, and the number of the function that they attach to.
///
/// # Errors
/// A kernel that lacks what is needed.
pub fn fit(btf: &[u8]) -> Result<(Vec<u8>, u32), ProgramError> {
    if cfg!(no_bpf) {
        return Err(ProgramError::NotBuilt);
    }
    let structs: Vec<&str> = FIELDS.iter().flat_map(|path| path.iter().map(|(of, _)| *of)).collect();
    let types = Btf::index(btf, &structs, &[FUNCTION]).ok_or(ProgramError::Btf)?;
    let function = types.function(FUNCTION).ok_or_else(|| ProgramError::Missing(FUNCTION.to_owned()))?;
    let mut offsets = Vec::with_capacity(FIELDS.len());
    for path in FIELDS {
        let mut offset = 0;
        for (of, member) in path {
            match types.bits((of, member)) {
                Some(bits) if BITS.contains(member) => offset = offset * 8 + bits,
                Some(bits) => offset += bits / 8,
                None if OPTIONAL.contains(member) => {
                    offset = 0;
                    break;
                }
                None => return Err(ProgramError::Missing(format!("{of}.{member}"))),
            }
        }
        offsets.push(offset);
    }
    Ok((patch(CODE, &offsets).ok_or(ProgramError::Btf)?, function))
}

/// Replaces each marked constant by the offset that it asks for. None for a mark that asks for something unknown.
fn patch(code: &[u8], offsets: &[u32]) -> Option<Vec<u8>> {
    let mut out = code.to_vec();
    let mut rest = out.as_mut_slice();
    while let Some((instruction, following)) = rest.split_first_chunk_mut::<8>() {
        let [operation, _, _, _, field @ ..] = instruction;
        if *operation == LOAD_CONSTANT {
            let (upper, _) = following.split_first_chunk_mut::<8>()?;
            let [_, _, _, _, mark @ ..] = upper;
            if u32::from_le_bytes(*mark) == MARK {
                let index = usize::try_from(u32::from_le_bytes(*field)).ok()?;
                *field = offsets.get(index)?.to_le_bytes();
                *mark = [0; 4];
            }
        }
        rest = following;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_of_the_program_is_replaced() {
        let offsets: Vec<u32> = (0..FIELDS.len() as u32).collect();
        let fitted = patch(CODE, &offsets).expect("all are known");
        let marks = |code: &[u8]| code.windows(4).filter(|window| **window == MARK.to_le_bytes()).count();
        assert!(marks(CODE) >= FIELDS.len(), "each field is read");
        assert_eq!(marks(&fitted), 0);
        assert_eq!(patch(CODE, &offsets[1..]), None, "a field more than there are offsets");
    }

    #[test]
    fn the_running_kernel_has_all_that_is_needed() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("BTF");
        let (code, function) = fit(&btf).expect("fits");
        assert_eq!(code.len(), CODE.len());
        assert!(function > 0);
        let types = Btf::index(&btf, &["sock", "sock_common"], &[]).expect("BTF");
        assert_eq!(types.bits(("sock", "__sk_common")), Some(0));
        assert_eq!(
            types.bits(("sock_common", "skc_num")),
            Some(14 * 8),
            "inside an anonymous union: port and number follow two addresses"
        );
    }

    #[test]
    fn a_kernel_without_mptcp_is_fitted_without_its_lists() {
        let mut btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("BTF");
        let (with, _) = fit(&btf).expect("fits");
        for name in [b"\0mptcp_sock\0".as_slice(), b"\0mptcp_subflow_context\0"] {
            let at = btf.windows(name.len()).position(|window| window == name).expect("a kernel with MPTCP");
            btf[at + 1] = b'_';
        }
        let (without, _) = fit(&btf).expect("fits");
        assert_eq!(with.len(), without.len());
        assert_ne!(with, without);
    }

    #[test]
    fn cut_or_foreign_bytes_are_refused() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("BTF");
        for cut in [0, 2, 23, 24, 1000, btf.len() / 2] {
            assert!(fit(&btf[..cut]).is_err(), "{cut}");
        }
        assert_eq!(fit(&[0; 64]), Err(ProgramError::Btf));
        let mut other = btf.clone();
        // Numbers of members and kinds that make no sense.
        for byte in other.iter_mut().skip(2000).step_by(97).take(5000) {
            *byte ^= 0xff;
        }
        let _ = fit(&other);
    }
}
