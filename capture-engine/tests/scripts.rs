//! Packet scripts without a kernel: the table of them through replay and through the kernel
//! programs as built for the host, and random ones. `kernel/scripts.rs` runs them in the kernel.
//!
//! `PILOTFISH_SCRIPTS=100000000 PILOTFISH_SCRIPTS_JOBS=$(nproc) cargo test --release -p capture-engine
//! --test scripts` is a long run in so many processes. `PILOTFISH_SCRIPTS_SEED` is that of its first
//! script, and each script's is one more than the one before: a run can be cut into parts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod script;

use capture_engine::replay::Replay;
use script::redis::{self, Values};
use script::refused::Crowd;
use script::{
    Packet, Told, check_table, dns, engine, frames, host, kafka, lines, mysql, postgres, random, room, streams, walks,
};
use std::io::Cursor;
use std::process::{Child, Command};

/// A capture of the packets, a millisecond apart.
fn file(packets: &[Packet]) -> Vec<u8> {
    let mut file = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat();
    for (packet, ms) in packets.iter().zip(0u32..) {
        let frame = packet.ethernet();
        let length = frame.len() as u32;
        file.extend([ms / 1000, ms % 1000 * 1_000_000, length, length].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    file
}

/// Each exchange makes a record, the same where the connection is walked and where it is replayed; walked, fewer than
/// one in `part` of the bytes are copied.
fn same_records_walked_and_replayed<N: Into<usize>>(
    scripts: u64,
    part: usize,
    conversation: impl Fn(u64, bool) -> (Vec<Packet>, N),
) {
    let (count, first) = random::scale(scripts);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    let (mut copied, mut sent) = (0, 0);
    for seed in first..first.saturating_add(count) {
        let (packets, exchanges) = conversation(seed, false);
        let all = dns::replayed(file(&packets));
        let (walked, bytes) = dns::walked(&packets);
        assert_eq!((all.records.len(), all.lost), (exchanges.into(), 0), "PILOTFISH_SCRIPTS_SEED={seed}");
        assert_eq!(walked.facts(), all.facts(), "PILOTFISH_SCRIPTS_SEED={seed}: lost {}", walked.lost);
        copied += bytes;
        sent += packets.iter().map(|packet| packet.payload.len()).sum::<usize>();
    }
    eprintln!("{copied} bytes copied of {sent}");
    assert!(copied * part < sent, "{copied} bytes copied of {sent}");
}

/// Walked, damaged connections make no record that is `wrong` beside what the undamaged one was. How many they make,
/// and how many exchanges there were.
fn no_wrong_record_of_damaged_ones<N>(
    conversation: impl Fn(u64, bool) -> (Vec<Packet>, N),
    wrong: impl Fn(&dns::Found, &dns::Found) -> Option<String>,
) -> (usize, usize) {
    let (count, first) = random::scale(300);
    let (mut found, mut sent) = (0, 0);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let truth = dns::replayed(file(&conversation(seed, false).0));
        let (walked, _) = dns::walked(&conversation(seed, true).0);
        assert_eq!(wrong(&walked, &truth), None, "PILOTFISH_SCRIPTS_SEED={seed}");
        found += walked.records.len();
        sent += truth.records.len();
    }
    eprintln!("{found} records of {sent} exchanges");
    (found, sent)
}

/// Of packets as large as an interface hands them over.
#[test]
fn the_programs_for_the_host_count_of_random_clients_how_often_they_ask() {
    if !host::can_run() {
        return;
    }
    let (count, first) = random::scale(2000);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    let (mut ends, mut counted) = (0, 0);
    for seed in first..first.saturating_add(count) {
        let most = if seed % 4 == 0 { 60_000 } else { 300 };
        let damaged = seed % 3 == 0;
        let story = lines::Story::new(seed, most, damaged);
        let of = story.differs(&story.on_the_host());
        let (were, are) =
            of.unwrap_or_else(|wrong| panic!("PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed} {wrong}"));
        (ends, counted) = (ends + u64::from(were), counted + u64::from(are));
    }
    eprintln!("{counted} of {ends} counted, a third of the clients' packets damaged");
    assert!(ends > 4 * count && counted > ends / 2, "{counted} of {ends}");
}

#[test]
fn replay_tells_what_the_table_of_scripts_says() {
    check_table(|packets| {
        let mut told = Told::default();
        Replay::new(Cursor::new(file(packets))).unwrap().run(|event| engine::hear(&mut told, &event));
        told.sorted()
    });
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn the_programs_for_the_host_tell_what_the_table_of_scripts_says() {
    assert!(host::can_run(), "the sources are here");
    check_table(host::run);
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn the_programs_tell_of_random_scripts_what_both_ends_know() {
    let jobs = std::env::var("PILOTFISH_SCRIPTS_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    if jobs > 1 {
        return in_processes(jobs);
    }
    random::check(30_000, |story| Ok(host::run(&story.packets)));
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn the_programs_for_the_host_walk_as_the_table_of_frames_says() {
    frames::check(walks::on_the_host);
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn of_a_message_of_rows_the_beginning_and_the_last_bytes_are_told() {
    frames::check_rows(walks::on_the_host);
}

/// `PILOTFISH_SCRIPTS=1000000` for a long run.
#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn of_each_frame_the_beginning_is_told_and_of_the_rest_that_it_was_left_out() {
    let (count, first) = random::scale(3000);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let mut story = walks::Story::new(seed, 65_000);
        let records = walks::on_the_host(story.walking());
        if let Some(wrong) = story.differs(&records) {
            panic!("PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed} {}, rough {}: {wrong}", story.name, story.rough);
        }
    }
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn what_is_walked_and_what_is_replayed_make_the_same_records() {
    let (count, first) = random::scale(300);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let (packets, queries) = dns::conversation(seed, false);
        let all = dns::replayed(file(&packets));
        let (walked, copied) = dns::walked(&packets);
        let sent: usize = packets.iter().map(|packet| packet.payload.len()).sum();
        assert_eq!((all.records.len(), all.lost), (usize::from(queries), 0), "PILOTFISH_SCRIPTS_SEED={seed}");
        assert_eq!(walked.facts(), all.facts(), "PILOTFISH_SCRIPTS_SEED={seed}: lost {}", walked.lost);
        assert!(copied <= sent, "{copied} of {sent}");
    }
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn what_is_walked_makes_no_wrong_record_of_a_damaged_connection() {
    let (count, first) = random::scale(300);
    let (mut found, mut sent) = (0, 0);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let truth = dns::replayed(file(&dns::conversation(seed, false).0)).facts();
        let (walked, _) = dns::walked(&dns::conversation(seed, true).0);
        for fact in walked.facts().iter().filter(|fact| fact.starts_with("Answered")) {
            assert!(truth.contains(fact), "PILOTFISH_SCRIPTS_SEED={seed}: {fact} is none of {truth:#?}");
        }
        found += walked.records.len();
        sent += truth.len();
    }
    eprintln!("{found} records of {sent} exchanges");
    assert!(found * 2 > sent, "it comes into step again: {found} of {sent}");
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn a_pipeline_of_which_all_packets_are_copied_makes_the_records_of_replay() {
    let (count, first) = random::scale(300);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let (packets, commands) = redis::conversation(seed, Values::Small, false);
        let all = dns::replayed(file(&packets));
        let (walked, _) = dns::walked(&packets);
        assert_eq!((all.records.len(), all.lost), (commands, 0), "PILOTFISH_SCRIPTS_SEED={seed}");
        assert_eq!(walked.facts(), all.facts(), "PILOTFISH_SCRIPTS_SEED={seed}: lost {}", walked.lost);
    }
}

/// Whatever cannot be seen is counted, and pairs nothing wrong.
#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn a_pipeline_of_long_values_is_counted_to_the_last_command() {
    let (count, first) = random::scale(200);
    let (mut found, mut asked, mut sent, mut copied) = (0, 0, 0, 0);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let (packets, commands) = redis::conversation(seed, Values::Long(seed as usize / 2 % 2), false);
        let truth = dns::replayed(file(&packets));
        let (walked, bytes) = dns::walked(&packets);
        let known = walked.records.len() as u64 + walked.lost;
        // Of several losses in a pipeline that never ends the count is a lower bound.
        let waits = seed % 2 == 0;
        let exact = known == commands as u64 || !waits && known < commands as u64;
        assert!(exact, "PILOTFISH_SCRIPTS_SEED={seed}: {known} of {commands}, {} lost", walked.lost);
        assert_eq!(redis::wrong(&walked, &truth), None, "PILOTFISH_SCRIPTS_SEED={seed}");
        found += walked.records.len();
        asked += commands;
        sent += packets.iter().map(|packet| packet.payload.len()).sum::<usize>();
        copied += bytes;
    }
    eprintln!("{found} records of {asked} commands; {copied} of {sent} bytes copied");
    assert!(copied * 2 < sent, "{copied} of {sent}");
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn a_damaged_pipeline_makes_no_wrong_record() {
    let (count, first) = random::scale(300);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let truth = dns::replayed(file(&redis::conversation(seed, Values::Small, false).0));
        let (walked, _) = dns::walked(&redis::conversation(seed, Values::Small, true).0);
        assert_eq!(redis::wrong(&walked, &truth), None, "PILOTFISH_SCRIPTS_SEED={seed}");
    }
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn streams_that_are_walked_and_replayed_make_the_same_records() {
    same_records_walked_and_replayed(200, 8, streams::conversation);
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn streams_that_are_walked_make_no_wrong_record_of_a_damaged_connection() {
    let (count, first) = random::scale(200);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    let (mut found, mut sent) = (0, 0);
    for seed in first..first.saturating_add(count) {
        let truth = dns::replayed(file(&streams::conversation(seed, false).0)).details();
        let (walked, _) = dns::walked(&streams::conversation(seed, true).0);
        // Those of which all is known: bytes of bodies may be missing.
        for detail in walked.details().iter().filter(|detail| !detail.contains("\"\"") && !detail.contains("None")) {
            assert!(truth.contains(detail), "PILOTFISH_SCRIPTS_SEED={seed}: {detail} is none of {truth:#?}");
        }
        found += walked.records.len();
        sent += truth.len();
    }
    eprintln!("{found} records of {sent} exchanges");
    assert!(found * 2 > sent, "it comes into step again: {found} of {sent}");
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn batches_that_are_walked_and_replayed_make_the_same_records() {
    same_records_walked_and_replayed(300, 2, postgres::conversation);
}

/// However short rows are, and however many.
#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn bulk_is_counted_to_the_byte_and_little_of_it_is_copied() {
    let (count, first) = random::scale(3);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        for length in [30, 300, 8192] {
            let (packets, exchanges) = postgres::bulk(seed, length, 3 << 20);
            let all = dns::replayed(file(&packets));
            let (walked, copied) = dns::walked(&packets);
            let sent: usize = packets.iter().map(|packet| packet.payload.len()).sum();
            assert_eq!((all.records.len(), all.lost), (exchanges, 0), "PILOTFISH_SCRIPTS_SEED={seed}");
            assert_eq!(walked.facts(), all.facts(), "PILOTFISH_SCRIPTS_SEED={seed}: lost {}", walked.lost);
            eprintln!("rows of {length}: {copied} bytes copied of {sent}");
            assert!(copied * 50 < sent, "rows of {length}: {copied} bytes copied of {sent}");
        }
    }
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn batches_that_are_walked_make_no_wrong_record_of_a_damaged_connection() {
    no_wrong_record_of_damaged_ones(postgres::conversation, postgres::wrong);
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn results_that_are_walked_and_replayed_make_the_same_records() {
    same_records_walked_and_replayed(300, 4, mysql::conversation);
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn results_that_are_walked_make_no_wrong_record_of_a_damaged_connection() {
    let (found, sent) = no_wrong_record_of_damaged_ones(mysql::conversation, mysql::wrong);
    assert!(found * 2 > sent, "it comes into step again: {found} of {sent}");
}

/// Three times as many in a second as there are places for answers.
#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn short_connections_without_room_are_told_however_many_they_are_for_the_host() {
    let (count, first) = random::scale(1);
    for seed in first..first.saturating_add(count) {
        let crowd = Crowd::new(seed, 50_000, 0);
        let frames: Vec<(bool, Vec<u8>)> = crowd.frames().collect();
        let [to, from, full] = host::refused(frames.iter().map(|(client, frame)| (7, *client, frame.as_slice())));
        assert_eq!([to, from, full], [0, crowd.answers, 0], "PILOTFISH_SCRIPTS_SEED={seed}");
    }
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn what_a_broker_is_asked_makes_the_same_records_walked_and_replayed() {
    same_records_walked_and_replayed(300, 4, kafka::conversation);
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn what_a_broker_is_asked_makes_no_wrong_record_of_a_damaged_connection() {
    let (found, sent) = no_wrong_record_of_damaged_ones(kafka::conversation, kafka::wrong);
    assert!(found * 2 > sent, "it comes into step again: {found} of {sent}");
}

/// The word of the dissector comes when the message has begun that nobody answers: what passed until then is lost, and
/// what comes after it is not.
#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn a_message_that_has_begun_and_never_ends_is_walked_from_the_word_on() {
    let (count, first) = random::scale(100);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    let (mut found, mut sent, mut copied, mut bytes) = (0, 0, 0, 0);
    for seed in first..first.saturating_add(count) {
        let requests = 1000 + (seed % 1000) as u16;
        let packets = kafka::one_way(seed, requests, 400);
        let late = (seed % 6) as usize;
        let (walked, taken) = dns::walked_late(&packets, late, false);
        let told = walked.records.len() as u64 + walked.lost;
        assert_eq!(told, 1 + u64::from(requests), "PILOTFISH_SCRIPTS_SEED={seed}: {} lost, {late} late", walked.lost);
        found += walked.records.len();
        sent += 1 + usize::from(requests);
        copied += taken;
        bytes += packets.iter().map(|packet| packet.payload.len()).sum::<usize>();
    }
    eprintln!("{found} records of {sent} exchanges, {copied} bytes copied of {bytes}");
}

/// Whether the dissector's word comes at once or when all is said: where its server is known, all of a connection is
/// copied until then.
fn whole_however_late<N: Into<usize>>(scripts: u64, conversation: impl Fn(u64, bool) -> (Vec<Packet>, N)) {
    let (count, first) = random::scale(scripts);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    let (mut lost, mut connections) = (0, 0);
    for seed in first..first.saturating_add(count) {
        let (packets, exchanges) = conversation(seed, false);
        let exchanges = exchanges.into();
        let bytes =
            |client| packets.iter().filter(|it| it.from_client == client).map(|it| it.payload.len()).sum::<usize>();
        if bytes(true).max(bytes(false)) > 900_000 {
            // More than a connection may have copied before anything is known of it.
            continue;
        }
        let late = random::Dice::new(seed).below(2 * packets.len() as u32) as usize;
        let (walked, _) = dns::walked_late(&packets, late, true);
        let told = (walked.records.len(), walked.lost);
        assert_eq!(told, (exchanges, 0), "PILOTFISH_SCRIPTS_SEED={seed}: {late} of {} packets late", packets.len());
        let all = dns::replayed(file(&packets));
        assert_eq!(walked.facts(), all.facts(), "PILOTFISH_SCRIPTS_SEED={seed}: {late} of {} late", packets.len());
        lost += dns::walked_late(&packets, late, false).0.lost;
        connections += 1;
    }
    eprintln!("{connections} connections; of a server that is not known {lost} exchanges are lost");
    assert!(connections * 10 > count && lost > 0, "{connections} of {count} connections, {lost} lost");
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn a_connection_to_a_known_server_is_whole_however_late_it_is_followed() {
    whole_however_late(40, postgres::conversation);
    whole_however_late(40, mysql::conversation);
    whole_however_late(40, kafka::conversation);
    whole_however_late(40, streams::conversation);
    whole_however_late(40, |seed, rough| redis::conversation(seed, Values::Small, rough));
}

/// The programs have one set of maps in each process, so that threads would wait for each other.
fn in_processes(jobs: u64) {
    let (count, first) = random::scale(30_000);
    let each = count.div_ceil(jobs);
    let job = |job: u64| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "the_programs_tell_of_random_scripts_what_both_ends_know"])
            .env("PILOTFISH_SCRIPTS", each.min(count.saturating_sub(job * each)).to_string())
            .env("PILOTFISH_SCRIPTS_SEED", first.saturating_add(job * each).to_string())
            .env("PILOTFISH_SCRIPTS_JOBS", "1")
            .spawn()
            .unwrap()
    };
    let running: Vec<Child> = (0..jobs).map(job).collect();
    let failed = running.into_iter().filter_map(|mut child| (!child.wait().unwrap().success()).then_some(())).count();
    assert_eq!(failed, 0, "of {jobs} processes");
}

/// Each exchange is counted, told as lost, or told by an answer without a flow.
fn each_once_though_room_comes_and_goes(scripts: u64, kind: room::Kind) {
    let (count, first) = random::scale(scripts);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        if let Some(wrong) = room::differs(seed, kind) {
            panic!("PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}: {wrong}");
        }
    }
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn of_connections_whose_room_comes_and_goes_each_exchange_is_counted_or_lost_once() {
    each_once_though_room_comes_and_goes(3000, room::Kind { again: 0, together: 0 });
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn what_is_sent_again_where_room_comes_and_goes_is_counted_or_lost_once() {
    each_once_though_room_comes_and_goes(3000, room::Kind { again: 25, together: 0 });
}

#[test]
#[cfg_attr(no_bpf, ignore = "built without clang")]
fn what_two_processors_see_where_room_comes_and_goes_is_counted_or_lost_once() {
    each_once_though_room_comes_and_goes(3000, room::Kind { again: 15, together: 40 });
}
