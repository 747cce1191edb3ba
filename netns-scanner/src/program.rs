//! The iterator's program made fit for the running kernel: its instructions with the places of the
//! fields that it reads, found in the kernel's BTF.
//!
//! The BTF is walked once without building anything from it: 3 ms for the 150,000 types of a
//! distribution's kernel. Nothing read from it is trusted beyond its length.

/// Instructions of `bpf/task_socks.bpf.c`, 8 bytes each.
const CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/task_socks.insns"));
/// `OFFSET_OF` of the program: the upper half of its constants.
const MARK: u32 = 0x7066_7363;
/// `BPF_LD | BPF_IMM | BPF_DW`: a 64-bit constant over two instructions.
const LOAD_CONSTANT: u8 = 0x18;

const FUNCTION: &[u8] = b"bpf_iter_task_file";
type Member = (&'static [u8], &'static [u8]);
const COMMON: Member = (b"sock", b"__sk_common");
/// Where to find what the program's `enum field` names, in its order: a member, or a member of a member.
const FIELDS: [&[Member]; 22] = [
    &[(b"socket", b"sk")],
    &[COMMON, (b"sock_common", b"skc_family")],
    &[COMMON, (b"sock_common", b"skc_state")],
    &[COMMON, (b"sock_common", b"skc_num")],
    &[COMMON, (b"sock_common", b"skc_dport")],
    &[COMMON, (b"sock_common", b"skc_daddr")],
    &[COMMON, (b"sock_common", b"skc_rcv_saddr")],
    &[COMMON, (b"sock_common", b"skc_v6_daddr")],
    &[COMMON, (b"sock_common", b"skc_v6_rcv_saddr")],
    &[COMMON, (b"sock_common", b"skc_net")],
    &[(b"sock", b"sk_protocol")],
    &[(b"sock", b"sk_ack_backlog")],
    &[(b"net", b"ns"), (b"ns_common", b"inum")],
    &[(b"task_struct", b"tgid")],
    &[(b"sock", b"sk_cgrp_data"), (b"sock_cgroup_data", b"cgroup")],
    &[(b"cgroup", b"kn")],
    &[(b"kernfs_node", b"id")],
    &[(b"sock", b"sk_max_ack_backlog")],
    &[COMMON, (b"sock_common", b"skc_ipv6only")],
    &[(b"mptcp_sock", b"conn_list")],
    &[(b"mptcp_subflow_context", b"node")],
    &[(b"mptcp_subflow_context", b"tcp_sock")],
];

/// What the program does without: a kernel without cgroups (or before 5.15, which kept it in
/// another form) does not have it, or one without MPTCP. The offset is then 0, where no kernel has
/// any of these but the last two; without the list before them, these are not asked for.
const OPTIONAL: [&[u8]; 5] = [b"sk_cgrp_data", b"cgroup", b"conn_list", b"node", b"tcp_sock"];

/// Bit-fields: their place is told in bits.
const BITS: [&[u8]; 1] = [b"skc_ipv6only"];

/// Anonymous structs and unions inside each other; the kernel has two or three.
const DEPTH: u32 = 8;

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
    let types = Types::index(btf).ok_or(ProgramError::Btf)?;
    let missing = |name: &[u8]| ProgramError::Missing(String::from_utf8_lossy(name).into_owned());
    let function = types.function.ok_or_else(|| missing(FUNCTION))?;
    let mut offsets = Vec::with_capacity(FIELDS.len());
    for path in FIELDS {
        let mut offset = 0;
        for (of, member) in path {
            match types.place(of, member) {
                Some(bits) if BITS.contains(member) => offset = offset * 8 + bits,
                Some(bits) => offset += bits / 8,
                None if OPTIONAL.contains(member) => {
                    offset = 0;
                    break;
                }
                None => return Err(missing(&[of, b".".as_slice(), member].concat())),
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

/// The types of a BTF blob by number, and those that matter by name.
struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; number 0 is void.
    at: Vec<u32>,
    structs: Vec<(&'static [u8], u32)>,
    function: Option<u32>,
}

// Documentation/bpf/btf.rst
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNC: u32 = 12;

impl<'a> Types<'a> {
    fn index(btf: &'a [u8]) -> Option<Types<'a>> {
        if btf.get(..3)? != [0x9f, 0xeb, 1] {
            return None;
        }
        let part = |at: usize| -> Option<&'a [u8]> {
            let begin = number(btf, 4)?.checked_add(number(btf, at)?)?;
            let end = begin.checked_add(number(btf, at + 4)?)?;
            btf.get(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut out = Types { types, strings, at: vec![u32::MAX], structs: Vec::new(), function: None };
        let mut wanted: Vec<&'static [u8]> = FIELDS.iter().flat_map(|path| path.iter().map(|(of, _)| *of)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut at = 0;
        while at < types.len() {
            let info = number(types, at + 4)?;
            let (kind, members) = (info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?);
            let more = match kind {
                1 | 14 | 17 => 4,
                2 | 7..=12 | 16 | 18 => 0,
                3 => 12,
                STRUCT | UNION | 15 | 19 => members * 12,
                6 | 13 => members * 8,
                _ => return None,
            };
            let id = u32::try_from(out.at.len()).ok()?;
            out.at.push(u32::try_from(at).ok()?);
            if kind == STRUCT {
                let name = out.name(number(types, at)?);
                if let Some(index) =
                    wanted.iter().position(|wanted| name.starts_with(wanted) && ends_after(name, wanted))
                {
                    out.structs.push((wanted.swap_remove(index), id));
                }
            } else if kind == FUNC && ends_after(out.name(number(types, at)?), FUNCTION) {
                out.function = Some(id);
            }
            at += 12 + more;
        }
        Some(out)
    }

    /// From the beginning of a name to the end of all strings.
    fn name(&self, offset: u32) -> &'a [u8] {
        usize::try_from(offset).ok().and_then(|offset| self.strings.get(offset..)).unwrap_or_default()
    }

    /// Bits from the beginning of struct `of` to its member.
    fn place(&self, of: &[u8], member: &[u8]) -> Option<u32> {
        let (_, id) = self.structs.iter().find(|(name, _)| *name == of)?;
        self.bits(*id, member, DEPTH)
    }

    fn bits(&self, id: u32, wanted: &[u8], depth: u32) -> Option<u32> {
        let at = usize::try_from(*self.at.get(usize::try_from(id).ok()?)?).ok()?;
        let info = number(self.types, at.checked_add(4)?)?;
        if !matches!(info >> 24 & 0x1f, STRUCT | UNION) || depth == 0 {
            return None;
        }
        let bit_fields = info >> 31 == 1;
        (0..usize::try_from(info & 0xffff).ok()?).find_map(|index| {
            let member = at + 12 + index * 12;
            let (name, kind, place) =
                (number(self.types, member)?, number(self.types, member + 4)?, number(self.types, member + 8)?);
            let place = if bit_fields { place & 0xff_ffff } else { place };
            match name {
                0 => self.bits(kind, wanted, depth - 1).and_then(|inner| place.checked_add(inner)),
                name => ends_after(self.name(name), wanted).then_some(place),
            }
        })
    }
}

fn ends_after(text: &[u8], name: &[u8]) -> bool {
    text.starts_with(name) && text.get(name.len()) == Some(&0)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
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
        let types = Types::index(&btf).expect("BTF");
        assert_eq!(types.place(b"sock", b"__sk_common"), Some(0));
        assert_eq!(
            types.place(b"sock_common", b"skc_num"),
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
