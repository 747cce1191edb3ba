//! `/proc/net/sockstat` and `sockstat6`: how many sockets of each protocol a namespace has. Pure.

/// Sockets of `protocol` that are in use: those in the kernel's table (`sock_prot_inuse_get`), which
/// TIME-WAIT is not. Only that figure is of one namespace; "orphan" and "alloc" are of the machine.
pub fn in_use(text: &str, protocol: &str) -> u64 {
    let fields = text.lines().find_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'));
    let mut words = fields.unwrap_or_default().split_ascii_whitespace();
    words.find(|word| *word == "inuse").and_then(|_| words.next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::in_use;

    #[test]
    fn sockets_in_use_are_read_of_the_protocol_that_is_asked_for() {
        let four = "sockets: used 9\nTCP: inuse 3 orphan 1 tw 7 alloc 12 mem 2\nUDP: inuse 4 mem 5\n\
                    UDPLITE: inuse 0\nRAW: inuse 1\nFRAG: inuse 0 memory 0\n";
        let six = "TCP6: inuse 2\nUDP6: inuse 5\n";
        assert_eq!(["TCP", "UDP", "RAW"].map(|of| in_use(four, of)), [3, 4, 1]);
        assert_eq!((in_use(six, "TCP6"), in_use(six, "TCP"), in_use("", "TCP6")), (2, 0, 0));
        assert_eq!(["TCP:", "TCP: inuse", "TCP: inuse x", "TCP: orphan 3"].map(|text| in_use(text, "TCP")), [0; 4]);
    }
}
