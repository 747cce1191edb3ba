//! The table: how connections begin, and begin again.
//! Where a script opens a connection, the client's first byte has number 101 and the server's 501.
//! What is expected was written by hand, from the rule.

use super::Script;

pub const BEGINNINGS: &[Script] = &[
    Script {
        name: "nobody listens",
        rule: "RFC 9293 3.5.2, 3.10.7.3",
        packets: "c S 100
                  s RA 0 101",
        told: "reset: 1+1 packets, 0 messages, half open",
    },
    Script {
        name: "a RST that does not acknowledge the SYN refuses nothing",
        rule: "RFC 9293 3.10.7.3",
        packets: "c S 100
                  s RA 0 77
                  s R 0
                  s SA 500 101
                  c A 101 501",
        told: "open: 2+3 packets, 0 messages",
    },
    Script {
        name: "refused, and asked again with the same number",
        rule: "RFC 9293 3.8.1: a SYN with the same number is the same one",
        packets: "c S 100
                  s RA 0 101
                  c S 100
                  s RA 0 101",
        told: "reset: 1+1 packets, 0 messages, half open
               reset: 1+1 packets, 0 messages, half open",
    },
    Script {
        name: "a SYN with another number on an open connection is challenged",
        rule: "RFC 5961 4.2",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c S 9000
                  s A 501 104       # the challenge
                  s A 501 104 answer
                  c A 104 507 more",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               c3 @104 more | 6 before
               open: 5+3 packets, 3 messages, last 4",
    },
    Script {
        name: "a SYN within the window is challenged, with payload and twice",
        rule: "RFC 5961 4.2",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c S 104 no
                  s S 501
                  c S 104 no
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 5+3 packets, 2 messages, last 6",
    },
    Script {
        name: "the SYN of an open connection comes again",
        rule: "RFC 9293 3.8.1, 3.10.7.4",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c S 100
                  s A 501 101
                  c A 101 501 ask
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 4+3 packets, 2 messages, last 6, retransmits 1+0",
    },
    Script {
        name: "the SYN-ACK of an open connection comes again",
        rule: "RFC 9293 3.8.1",
        packets: "c S 100
                  s SA 500 101
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  s SA 500 101
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 3+4 packets, 2 messages, last 6, retransmits 0+2",
    },
    Script {
        name: "a SYN-ACK that acknowledges no SYN opens nothing",
        rule: "RFC 9293 3.10.7.3",
        packets: "c S 100
                  s SA 700 33
                  c R 33
                  s SA 500 101
                  c A 101 501 ask",
        told: "c1 @101 ask
               open: 3+2 packets, 1 messages, last 3",
    },
    Script {
        name: "the client has forgotten the connection, the server has not",
        rule: "RFC 9293 3.5.1, figure 10",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c S 4000
                  s A 501 104
                  c R 104
                  c S 4000
                  s SA 8000 4001
                  c A 4001 8001 ask",
        told: "c1 @101 ask
               reset: 5+2 packets, 1 messages, last 3
               c1 @4001 ask
               open: 2+1 packets, 1 messages, last 3",
    },
    Script {
        name: "the server has forgotten the connection",
        rule: "RFC 9293 3.5: a SYN-ACK is of a new connection",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c S 4000
                  c S 4000
                  s SA 8000 4001
                  c A 4001 8001
                  c A 4001 8001 ask",
        told: "c1 @101 ask
               gone: 3+1 packets, 1 messages, last 3
               c1 @4001 ask
               open: 4+1 packets, 1 messages, last 3, retransmits 1+0",
    },
    Script {
        name: "both have forgotten it, and the new one is refused",
        rule: "RFC 9293 3.5.2",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c S 4000
                  s RA 0 4001",
        told: "gone: 2+1 packets, 0 messages
               reset: 1+1 packets, 0 messages, half open",
    },
    Script {
        name: "two attempts, of which the second is answered",
        rule: "RFC 9293 3.10.7.4, SYN-RECEIVED",
        packets: "c S 100
                  c S 300
                  s SA 500 301
                  c A 301 501 ask",
        told: "gone: 1+0 packets, 0 messages, half open
               c1 @301 ask
               open: 2+1 packets, 1 messages, last 3",
    },
    Script {
        name: "a stranger's SYN between a SYN and its answer",
        rule: "RFC 9293 3.10.7.4, SYN-RECEIVED",
        packets: "c S 100
                  c S 300
                  s SA 500 101
                  c A 101 501 ask",
        told: "c1 @101 ask
               open: 3+1 packets, 1 messages, last 3",
    },
    Script {
        name: "the tuple is used again after the end",
        rule: "RFC 9293 3.6.1, RFC 6191",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 101 501 ask
                  s FA 501 105 answer
                  c S 4000          # the last ACK was lost
                  s SA 8000 4001
                  c A 4001 8001
                  c A 4001 8001 ask
                  s A 8001 4004 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               fin: 3+2 packets, 2 messages, last 6
               c1 @4001 ask
               s2 @8001 answer | 3 before
               open: 3+2 packets, 2 messages, last 6",
    },
    Script {
        name: "the server still waits and challenges, then takes it",
        rule: "RFC 9293 3.6.1, 3.10.7.4 (TIME-WAIT)",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  s FA 501 101
                  c FA 101 502
                  c S 4000
                  s A 502 102
                  c R 102
                  c S 4000
                  s SA 8000 4001
                  c A 4001 8001 ask",
        told: "fin: 3+2 packets, 0 messages
               c1 @4001 ask
               open: 4+2 packets, 1 messages, last 3, retransmits 1+0",
    },
    Script {
        name: "an old duplicate of the SYN opens nothing",
        rule: "RFC 9293 3.6.1: what TIME-WAIT is for",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 101 501
                  s FA 501 102
                  c A 102 502
                  c S 100
                  s A 502 102",
        told: "fin: 5+3 packets, 0 messages, retransmits 1+0",
    },
    Script {
        name: "an old duplicate of data comes into a new connection",
        rule: "RFC 9293 3.4.2, 3.10.7.4",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 60 400 old
                  c A 101 501 ask
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 4+2 packets, 2 messages, last 6",
    },
    Script {
        name: "the answer to an older connection's server is no handshake",
        rule: "RFC 9293 3.10.7.3",
        packets: "c S 100
                  s A 9000 700      # challenges: it has another connection still
                  c R 700
                  c S 100
                  s SA 500 101
                  c A 101 501 ask",
        told: "c1 @101 ask
               open: 4+2 packets, 1 messages, last 3, retransmits 1+0",
    },
    Script {
        name: "data comes with the SYN",
        rule: "RFC 7413 4.2",
        packets: "c S 100 ask
                  s SA 500 104
                  s A 501 104 answer
                  c A 104 507
                  c A 104 507 more",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               c3 @104 more | 6 before
               open: 3+2 packets, 3 messages, last 4",
    },
    Script {
        name: "data comes with the SYN and is not taken",
        rule: "RFC 7413 4.2.2: the client sends it again",
        packets: "c S 100 ask
                  s SA 500 101
                  c A 101 501 ask
                  s A 501 104 answer",
        told: "c1 @101 ask
               c1 @101 ask
               s2 @501 answer | 3 before
               open: 2+2 packets, 2 messages, last 6, retransmits 1+0",
    },
    Script {
        name: "a SYN with data is sent again as a whole",
        rule: "RFC 9293 3.8.1: one packet is one retransmission",
        packets: "c S 100 ask
                  c S 100 ask
                  s SA 500 104
                  c A 104 501",
        told: "c1 @101 ask
               open: 3+1 packets, 1 messages, last 3, retransmits 1+0",
    },
    Script {
        name: "the tuple is used again, with data in the SYN",
        rule: "RFC 7413, RFC 6191",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  s FA 501 101
                  c FA 101 502
                  c S 4000 ask
                  s SA 8000 4004
                  s A 8001 4004 answer
                  c A 4004 8007",
        told: "fin: 3+2 packets, 0 messages
               c1 @4001 ask
               s2 @8001 answer | 3 before
               open: 2+2 packets, 2 messages, last 6",
    },
    Script {
        name: "data in a SYN that looked like a stranger's is a message whose head is lost",
        rule: "RFC 7413, RFC 5961 4.2",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c S 4000 ask
                  s SA 8000 4004
                  s A 8001 4004 answer
                  c A 4004 8007",
        told: "gone: 2+1 packets, 0 messages
               s2 @8001 answer | 3 before
               open: 2+2 packets, 2 messages, last 6",
    },
    Script {
        name: "both open at once",
        rule: "RFC 9293 3.5, figure 7",
        packets: "c S 100
                  s S 500
                  c SA 100 501
                  s SA 500 101
                  c A 101 501 ask
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 3+3 packets, 2 messages, last 6, roles unknown",
    },
    Script {
        name: "the SYN-ACK was not seen",
        rule: "RFC 9293 3.5, for who lost packets",
        packets: "c S 100
                  c A 101 501
                  c A 101 501 ask
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 3+1 packets, 2 messages, last 6",
    },
    Script {
        name: "the SYN was not seen",
        rule: "RFC 9293 3.5, for who lost packets",
        packets: "s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 2+2 packets, 2 messages, last 6",
    },
    Script {
        name: "a segment without ACK is dropped",
        rule: "RFC 9293 3.10.7.4, fifth",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c - 101 none
                  c F 101
                  c SF 101
                  c SR 7
                  c A 101 501 ask
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 7+2 packets, 2 messages, last 6",
    },
    Script {
        name: "a byte that was acknowledged is a probe, one that was not is a retransmission",
        rule: "RFC 9293 3.8.4, 3.8.1",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  s A 501 104
                  c A 103 501 k     # keep-alive
                  s A 501 104 y
                  s A 501 104 y     # its acknowledgment was lost",
        told: "c1 @101 ask
               c1 @103 k
               s2 @501 y | 3 before
               s2 @501 y
               open: 4+4 packets, 2 messages, last 1, retransmits 0+1",
    },
    Script {
        name: "joined behind an answer that is sent again",
        rule: "RFC 9293 3.4: what the first packet acknowledges was there before it",
        packets: "c A 104 507 ask
                  s A 501 104 answer  # what acknowledged it was lost
                  s A 501 104 answersecond
                  s A 507 107 second
                  c A 107 513",
        told: "c1 @104 ask
               s2 @507 second | 3 before
               s2 @507 second
               open: 2+3 packets, 2 messages, last 6, retransmits 0+1, midway, roles unknown",
    },
    Script {
        name: "joined, and a FIN overtakes the first data of its direction",
        rule: "RFC 9293 3.4, 3.10.7.4: a FIN is processed at its sequence number",
        packets: "c A 101 501 ask
                  s FA 507 104
                  s A 501 104 answer
                  c FA 104 508
                  s A 508 105",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               fin: 2+3 packets, 2 messages, last 6, midway, roles unknown",
    },
    Script {
        name: "joined, and a FIN follows what was not seen",
        rule: "RFC 9293 3.4, 3.10.7.4; its acknowledgment tells that it came",
        packets: "c A 101 501 ask
                  s FA 507 104
                  c FA 104 508
                  s A 508 105",
        told: "c1 @101 ask
               fin: 2+2 packets, 1 messages, last 3, midway, roles unknown",
    },
    Script {
        name: "joined at an answer to what is sent again",
        rule: "RFC 9293 3.4",
        packets: "s A 501 104 answer
                  c A 101 501 ask
                  s A 507 104 more
                  c A 104 511 next",
        told: "s1 @501 answer
               s1 @507 more
               c2 @104 next | 10 before
               open: 2+2 packets, 2 messages, last 4, midway, roles unknown",
    },
];
