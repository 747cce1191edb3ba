//! Protocols that say how long a frame is, as the walker is told of them.

use l7::{Length, Walk};

const FIXED: Walk = Walk {
    length: Length::Fixed { at: 0, width: 4, big_endian: true },
    header: 4,
    uncounted: 4,
    kind: None,
    classes: &[],
    keep: [256; 4],
    most: 64,
    aligned: true,
    rows: true,
    runs: false,
};

const fn fixed(at: u8, width: u8, big_endian: bool) -> Length {
    Length::Fixed { at, width, big_endian }
}

/// Of its rows, which may be many, the kind and the length.
pub const POSTGRESQL: Walk = Walk {
    length: fixed(1, 4, true),
    header: 5,
    uncounted: 1,
    kind: Some((0, 0xff)),
    classes: &[(1, b"Dd")],
    keep: [256, 5, 0, 0],
    most: 16,
    ..FIXED
};

/// Rows of which only the first and the last of a packet are told.
pub const RUNS: Walk = Walk {
    classes: &[(3, b"Dd")],
    keep: [256, 0, 0, 5],
    most: 64,
    aligned: false,
    rows: false,
    runs: true,
    ..POSTGRESQL
};

pub static PROTOCOLS: [(&str, Walk); 12] = [
    (
        "HTTP/2",
        Walk {
            length: fixed(0, 3, true),
            header: 9,
            uncounted: 9,
            kind: Some((3, 0xff)),
            classes: &[(1, &[1, 5, 9]), (2, &[3, 7]), (3, &[2, 4, 6, 8])],
            keep: [9, u32::MAX, 17, 0],
            aligned: false,
            rows: false,
            ..FIXED
        },
    ),
    ("PostgreSQL", RUNS),
    ("messages of rows", POSTGRESQL),
    ("MySQL", Walk { length: fixed(0, 3, false), most: 16, ..FIXED }),
    ("Kafka", Walk { keep: [512; 4], aligned: false, rows: false, ..FIXED }),
    ("MongoDB", Walk { length: fixed(0, 4, false), header: 16, uncounted: 0, keep: [512; 4], rows: false, ..FIXED }),
    ("CQL", Walk { length: fixed(5, 4, true), header: 9, uncounted: 9, keep: [512; 4], aligned: false, ..FIXED }),
    (
        "AMQP",
        Walk {
            length: fixed(3, 4, true),
            header: 7,
            uncounted: 8,
            kind: Some((0, 0xff)),
            classes: &[(1, &[1]), (2, &[2]), (3, &[3])],
            keep: [8, u32::MAX, 21, 7],
            aligned: false,
            rows: false,
            ..FIXED
        },
    ),
    (
        "TLS",
        Walk {
            length: fixed(3, 2, true),
            header: 5,
            uncounted: 5,
            kind: Some((0, 0xff)),
            classes: &[(1, &[22, 21])],
            keep: [5, u32::MAX, 0, 0],
            aligned: false,
            rows: false,
            ..FIXED
        },
    ),
    (
        "rows that nobody wants",
        Walk { header: 5, uncounted: 5, kind: Some((4, 1)), classes: &[(1, &[1])], keep: [64, 0, 0, 0], ..FIXED },
    ),
    (
        "MQTT",
        Walk { length: Length::Varint { at: 1 }, header: 2, uncounted: 0, keep: [128; 4], aligned: false, ..FIXED },
    ),
    (
        "WebSocket",
        Walk {
            length: Length::WebSocket,
            header: 2,
            uncounted: 0,
            keep: [14; 4],
            aligned: false,
            rows: false,
            ..FIXED
        },
    ),
];
