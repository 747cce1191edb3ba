//! Crowds of connections that find no room in the flow table, at their server's interface: each is
//! answered, some answers are sent again, and most connections end. What is known of them is how many
//! answers there were.

use super::Packet;
use super::random::Dice;

const GET: &[u8] = b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Connections that are open at the same time.
const AT_ONCE: usize = 40;

/// One packet of one of them.
pub struct Step {
    pub port: u16,
    pub packet: Packet,
}

pub struct Crowd {
    pub steps: Vec<Step>,
    pub answers: u64,
}

/// A connection under way.
struct Under {
    port: u16,
    rest: std::vec::IntoIter<Packet>,
}

impl Crowd {
    /// `staying`: of a hundred, so many do not end.
    pub fn new(seed: u64, connections: u32, staying: u32) -> Crowd {
        let mut crowd = Crowd { steps: Vec::new(), answers: 0 };
        let mut dice = Dice::new(seed);
        let (mut free, mut next): (Vec<u16>, u16) = (Vec::new(), 1024);
        let (mut begun, mut open): (u32, Vec<Under>) = (0, Vec::new());
        while begun < connections || !open.is_empty() {
            if begun < connections && open.len() < AT_ONCE {
                begun += 1;
                // Ports are used again, by connections of any numbers.
                let port = if dice.below(4) == 0 || next == u16::MAX { free.pop() } else { None };
                let port = port.unwrap_or_else(|| {
                    next += 1;
                    next
                });
                let stays = dice.below(100) < staying;
                let rest = crowd.connection(&mut dice, stays).into_iter();
                open.push(Under { port, rest });
                continue;
            }
            let who = dice.below(open.len() as u32) as usize;
            match open[who].rest.next() {
                Some(packet) => crowd.steps.push(Step { port: open[who].port, packet }),
                None => {
                    let over = open.swap_remove(who);
                    let last = crowd.steps.iter().rev().find(|step| step.port == over.port);
                    if last.is_some_and(|step| step.packet.flags != "A") {
                        free.push(over.port);
                    }
                }
            }
        }
        crowd
    }

    /// Its packets from the first request on. The last one is a plain ACK where it stays.
    fn connection(&mut self, dice: &mut Dice, stays: bool) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut send = |from_client, flags, seq, ack, payload: &[u8]| {
            packets.push(Packet { from_client, flags, seq, ack, window: 64_000, payload: payload.to_vec() });
        };
        let [mut asked, mut answered] = [dice.below(u32::MAX), dice.below(u32::MAX)];
        for _ in 0..1 + dice.below(3) {
            send(true, "A", asked, answered, GET);
            asked = asked.wrapping_add(GET.len() as u32);
            self.answers += 1;
            for _ in 0..1 + dice.below(5) / 3 {
                send(false, "A", answered, asked, OK);
            }
            answered = answered.wrapping_add(OK.len() as u32);
            send(true, "A", asked, answered, b"");
        }
        if stays {
            return packets;
        }
        match dice.below(5) {
            0 => {
                send(true, "FA", asked, answered, b"");
                send(false, "FA", answered, asked.wrapping_add(1), b"");
            }
            1 | 2 => {
                send(false, "FA", answered, asked, b"");
                send(true, "FA", asked, answered.wrapping_add(1), b"");
            }
            3 => send(true, "RA", asked, answered, b""),
            _ => send(false, "R", answered, 0, b""),
        }
        packets
    }

    /// Client's or not, and the frame.
    pub fn frames(&self) -> impl Iterator<Item = (bool, Vec<u8>)> {
        self.steps.iter().map(|step| {
            let mut frame = Vec::new();
            step.packet.frame_of(([10, 0, 0, 2], step.port), &mut frame);
            (step.packet.from_client, frame)
        })
    }
}
