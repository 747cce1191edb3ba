//! The table: how connections end.
//! Where a script opens a connection, the client's first byte has number 101 and the server's 501.
//! What is expected was written by hand, from the rule.

use super::Script;

pub const ENDINGS: &[Script] = &[
    Script {
        name: "request, response, both close",
        rule: "RFC 9293 3.5, 3.6",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  s A 501 104 answer
                  c FA 104 507
                  s FA 507 105
                  c A 105 508",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               fin: 5+3 packets, 2 messages, last 6",
    },
    Script {
        name: "a FIN that overtakes lost data waits for it",
        rule: "RFC 9293 3.4, 3.10.7.4: a FIN is processed at its sequence number",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 104 501      # 101 to 103 were lost on the way here
                  s A 501 101
                  c A 101 501 ask
                  s A 501 105 answer
                  s FA 507 105
                  c A 105 508",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               fin: 5+4 packets, 2 messages, last 6",
    },
    Script {
        name: "data with a FIN overtakes other data",
        rule: "RFC 9293 3.4, 3.10.7.4",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  s FA 501 101      # the server has said goodbye already
                  c FA 104 502 two
                  s A 502 101
                  c A 101 502 one
                  s A 502 108",
        told: "c1 @104 two
               c1 @101 one
               fin: 4+4 packets, 1 messages, last 6",
    },
    Script {
        name: "a FIN that overtakes data which is answered by the other's FIN",
        rule: "RFC 9293 3.10.7.4: not closed before all has come",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 104 501
                  s FA 501 101
                  c A 105 502
                  c A 101 502 ask
                  s A 502 105",
        told: "c1 @101 ask
               fin: 5+3 packets, 1 messages, last 3",
    },
    Script {
        name: "what was missed before a FIN is known from its acknowledgment",
        rule: "RFC 9293 3.4: an acknowledgment is cumulative",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 104 501      # 101 to 103 were never seen here
                  s A 501 105 answer
                  s FA 507 105
                  c A 105 508",
        told: "s1 @501 answer
               fin: 4+3 packets, 1 messages, last 6",
    },
    Script {
        name: "a FIN is sent again",
        rule: "RFC 9293 3.6, 3.8.1",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 101 501
                  c FA 101 501
                  s FA 501 102
                  c A 102 502",
        told: "fin: 5+2 packets, 0 messages, retransmits 1+0",
    },
    Script {
        name: "a FIN that overtook data is sent again with it",
        rule: "RFC 9293 3.8.1",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 104 501
                  c FA 101 501 ask
                  s FA 501 105
                  c A 105 502",
        told: "c1 @101 ask
               fin: 5+2 packets, 1 messages, last 3",
    },
    Script {
        name: "nothing behind a FIN is payload",
        rule: "RFC 9293 3.10.7.4, seventh: after a FIN the segment text is ignored",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 101 501 ask
                  c A 104 501 never
                  s A 501 105 answer
                  s FA 507 105
                  c A 105 508",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               fin: 5+3 packets, 2 messages, last 6",
    },
    Script {
        name: "one side closes and listens on",
        rule: "RFC 9293 3.6 case 2",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 101 501 ask
                  s A 501 105 one
                  s A 504 105 two
                  c A 105 507
                  s FA 507 105
                  c A 105 508",
        told: "c1 @101 ask
               s2 @501 one | 3 before
               s2 @504 two
               fin: 5+4 packets, 2 messages, last 6",
    },
    Script {
        name: "both close at once",
        rule: "RFC 9293 3.6 case 3",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 101 501
                  s FA 501 101
                  c A 102 502
                  s A 502 102",
        told: "fin: 4+3 packets, 0 messages",
    },
    Script {
        name: "a FIN with an old number is none",
        rule: "RFC 9293 3.10.7.4, first: outside of the window",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c FA 101 501
                  c A 104 501 more
                  s A 501 108 answer",
        told: "c1 @101 ask
               c1 @104 more
               s2 @501 answer | 7 before
               open: 5+2 packets, 2 messages, last 6",
    },
    Script {
        name: "numbers go around in the middle of a FIN's data",
        rule: "RFC 9293 3.4: arithmetic modulo 2^32",
        packets: "c S 4294967290
                  s SA 4294967294 4294967291
                  c A 4294967291 4294967295
                  c FA 3 4294967295
                  c A 4294967291 4294967295 12345678
                  s FA 4294967295 4 go
                  c A 4 2",
        told: "c1 @4294967291 12345678
               s2 @4294967295 go | 8 before
               fin: 5+2 packets, 2 messages, last 2",
    },
    Script {
        name: "a RST with the number that is expected closes",
        rule: "RFC 5961 3.2 (2), RFC 9293 3.10.7.4",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c R 104
                  s A 501 104 late",
        told: "c1 @101 ask
               reset: 4+2 packets, 1 messages, last 3",
    },
    Script {
        name: "a RST from outside of the window is nothing",
        rule: "RFC 5961 3.2 (1)",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c R 3000000000
                  c R 50
                  s R 4
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 5+3 packets, 2 messages, last 6",
    },
    Script {
        name: "a RST within the window is challenged",
        rule: "RFC 5961 3.2 (3)",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c R 110
                  s A 501 104       # the challenge
                  s A 501 104 answer",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               open: 4+3 packets, 2 messages, last 6",
    },
    Script {
        name: "who means it answers the challenge",
        rule: "RFC 5961 3.2 (3): the challenge's number is the RST's",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  c R 110
                  s A 501 104
                  c R 104",
        told: "c1 @101 ask
               reset: 5+2 packets, 1 messages, last 3",
    },
    Script {
        name: "a RST with what was acknowledged last closes, though more was sent",
        rule: "RFC 9293 3.5.2: a RST has the number that its cause acknowledged",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c A 101 501 ask
                  s A 501 104 answer
                  c A 104 507 more
                  c R 104",
        told: "c1 @101 ask
               s2 @501 answer | 3 before
               c3 @104 more | 6 before
               reset: 5+2 packets, 3 messages, last 4",
    },
    Script {
        name: "a RST behind bytes that were missed closes, where they were acknowledged",
        rule: "RFC 5961 3.2 (2), for who lost packets",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  s A 501 104       # 101 to 103 were never seen here
                  c R 104",
        told: "reset: 3+2 packets, 0 messages",
    },
    Script {
        name: "a RST behind a FIN whose data was missed",
        rule: "RFC 9293 3.10.7.4",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  c FA 104 501
                  c R 105",
        told: "reset: 4+1 packets, 0 messages",
    },
    Script {
        name: "what a RST carries is no payload",
        rule: "RFC 9293 3.10.7.4, second: a text that tells why",
        packets: "c S 100
                  s SA 500 101
                  c A 101 501
                  s R 501 go away",
        told: "reset: 2+2 packets, 0 messages",
    },
];
