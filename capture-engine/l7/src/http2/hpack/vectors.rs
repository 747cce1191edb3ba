//! The examples of RFC 7541 appendix C, and what a decoder that came late makes of them.

use super::*;

/// Hexadecimal digits, with spaces between them as the RFC has them.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect()
}

fn read(decoder: &mut Decoder, hex: &str) -> Fields {
    let mut fields = Fields::default();
    decoder.read(&bytes(hex), true, 4096, &mut fields);
    decoder.end(&mut fields);
    fields
}

/// `GET / www.example.com`, with what is not known as `?`.
fn request(fields: &Fields) -> String {
    let text = |text: &Option<Text>| text.as_ref().map_or("?", Text::as_str).to_owned();
    let method = fields.method.as_deref().unwrap_or("?");
    let ends = [(fields.unknown, " unknown"), (fields.cut, " cut")];
    let ends: String = ends.iter().filter_map(|(is, word)| is.then_some(*word)).collect();
    format!("{method} {} {}{ends}", text(&fields.path), text(&fields.authority))
}

const PLAIN: [&str; 3] = [
    "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "8286 84be 5808 6e6f 2d63 6163 6865",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
];

const HUFFMAN: [&str; 3] = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
];

#[test]
fn requests_of_the_rfc_are_read_in_both_writings() {
    for examples in [PLAIN, HUFFMAN] {
        let mut decoder = Decoder::new();
        let requests = examples.map(|example| request(&read(&mut decoder, example)));
        assert_eq!(requests, ["GET / www.example.com", "GET / www.example.com", "GET /index.html www.example.com"]);
    }
}

#[test]
fn responses_of_the_rfc_are_read_while_their_table_overflows() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
         2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
         8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for examples in [plain, huffman] {
        let mut decoder = Decoder::new();
        decoder.table.resize(256);
        let fields = examples.map(|example| read(&mut decoder, example));
        assert_eq!(fields.each_ref().map(|fields| fields.status), [Some(302), Some(307), Some(200)]);
        assert!(fields.iter().all(|fields| !fields.unknown && !fields.cut));
    }
}

#[test]
fn a_block_may_be_cut_at_every_byte() {
    for example in [PLAIN[2], HUFFMAN[2]] {
        for piece in 1..40 {
            let mut decoder = Decoder::new();
            read(&mut decoder, PLAIN[0]);
            read(&mut decoder, PLAIN[1]);
            let mut fields = Fields::default();
            for piece in bytes(example).chunks(piece) {
                decoder.read(piece, true, 4096, &mut fields);
            }
            decoder.end(&mut fields);
            assert_eq!(request(&fields), "GET /index.html www.example.com");
        }
    }
}

#[test]
fn what_was_inserted_before_anybody_listened_is_unknown_until_it_is_said_again() {
    let mut late = Decoder::new();
    assert_eq!(request(&read(&mut late, PLAIN[1])), "GET / ? unknown");
    // `no-cache` was seen to come, so it has its place; the authority before it has not.
    assert_eq!(request(&read(&mut late, "8286 84be")), "GET / ?");
    assert_eq!(request(&read(&mut late, "8286 84bf")), "GET / ? unknown");
    // A value under a name by an index of that time: so is the name. `:authority` by the static one is known.
    assert_eq!(request(&read(&mut late, "8286 847f 0001 61")), "GET / ? unknown");
    assert_eq!(request(&read(&mut late, "8286 84be")), "GET / ? unknown");
    assert_eq!(request(&read(&mut late, "8286 8441 0161")), "GET / a");
    assert_eq!(request(&read(&mut late, "8286 84be")), "GET / a");
}

#[test]
fn a_hole_in_a_block_makes_the_table_unknown_and_keeps_what_came_before_it() {
    let mut decoder = Decoder::new();
    read(&mut decoder, PLAIN[0]);
    let mut fields = Fields::default();
    decoder.read(&bytes("8286 84"), true, 4096, &mut fields);
    decoder.lose();
    decoder.read(&bytes("be"), true, 4096, &mut fields);
    decoder.end(&mut fields);
    assert_eq!(request(&fields), "GET / ? cut");
    assert_eq!(request(&read(&mut decoder, "8286 84be")), "GET / ? unknown");
    assert_eq!(request(&read(&mut decoder, PLAIN[0])), "GET / www.example.com");
}

#[test]
fn nonsense_ends_a_block_and_nothing_else() {
    for nonsense in [
        "80",                             // index 0
        "ff ffff ffff 7f",                // a number without end
        "41 8441",                        // a string longer than the block
        "41 81ff",                        // a code that is none
        "40 ffff ffff ffff ffff ffff 7f", // a name without end
    ] {
        let mut decoder = Decoder::new();
        let fields = read(&mut decoder, &format!("82 {nonsense}"));
        assert_eq!(request(&fields), "GET ? ? cut", "{nonsense}");
        assert_eq!(request(&read(&mut decoder, PLAIN[0])), "GET / www.example.com", "{nonsense}");
    }
}

#[test]
fn a_field_that_does_not_end_is_kept_within_a_bound() {
    let mut decoder = Decoder::new();
    let mut fields = Fields::default();
    decoder.read(&bytes("82 40 7f e1ff ff03"), true, 4096, &mut fields);
    for _ in 0..1000 {
        decoder.read(&[b'x'; 100], true, 4096, &mut fields);
        assert!(decoder.buffered() <= 4096);
    }
    decoder.end(&mut fields);
    assert_eq!(request(&fields), "GET ? ? cut");
}

#[test]
fn no_value_is_kept_of_what_is_not_read() {
    let mut decoder = Decoder::new();
    // authorization: secret; cookie: secret; x-key: secret, all to be indexed.
    for name in ["57", "60", "4005 782d 6b65 79"] {
        read(&mut decoder, &format!("{name} 06 7365 6372 6574"));
    }
    assert!(!format!("{decoder:?}").contains("secret"));
    assert!(decoder.held() < 512, "{}", decoder.held());
}
