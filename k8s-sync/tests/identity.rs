//! What the index answers as its writer binds, releases and forgets.

use flow_model::{Endpoint, Identity, Names, Slot, Ts, Unknown, Workload, WorkloadKind};
use k8s_sync::{Address, Addresses, Claim, IdentityIndex, Limits, NamesReader, Origin};
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const POD: Slot = Slot(1);

fn pod(name: &str) -> Arc<Workload> {
    Arc::new(Workload { namespace: "shop".into(), name: name.into(), kind: WorkloadKind::Pod, pod: name.into() })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn index() -> (IdentityIndex, NamesReader) {
    let index = IdentityIndex::new(Limits::default());
    let reader = index.reader(Addresses::ByClass);
    (index, reader)
}

/// The name, or the reason that there is none.
fn who(reader: &NamesReader, address: &str, port: u16, at: u64) -> String {
    match reader.remote(POD, Endpoint { ip: ip(address), port }, Ts(at)) {
        Identity::Known(workload) => workload.name.to_string(),
        Identity::Unknown(reason) => format!("{reason:?}"),
    }
}

#[test]
fn a_reused_address_has_its_holder_of_the_time() {
    let (mut index, reader) = index();
    let cart = index.bind(Address::ip(ip("10.0.0.5")), pod("cart"), Ts(10));
    index.release(cart, Ts(20));
    let _web = index.bind(Address::ip(ip("10.0.0.5")), pod("web"), Ts(30));
    let at = |t| who(&reader, "10.0.0.5", 80, t);
    assert_eq!([9, 10, 19, 20, 29, 30, 99].map(at), ["private", "cart", "cart", "private", "private", "web", "web"]);
}

#[test]
fn two_holders_at_once_are_ambiguous_until_one_has_left() {
    let (mut index, reader) = index();
    let cart = index.bind(Address::ip(ip("10.0.0.5")), pod("cart"), Ts(10));
    let _web = index.bind(Address::ip(ip("10.0.0.5")), pod("web"), Ts(15));
    assert_eq!(who(&reader, "10.0.0.5", 80, 16), "Ambiguous");
    index.release(cart, Ts(20));
    let at = |t| who(&reader, "10.0.0.5", 80, t);
    assert_eq!([14, 16, 20].map(at), ["cart", "Ambiguous", "web"]);
}

#[test]
fn a_port_of_a_shared_address_is_more_specific_than_the_address() {
    let (mut index, reader) = index();
    let _node = index.bind(Address::ip(ip("10.0.0.1")), pod("node-1"), Ts(0));
    let _proxy = index.bind(Address::port(ip("10.0.0.1"), 9100), pod("node-exporter"), Ts(0));
    assert_eq!(who(&reader, "10.0.0.1", 9100, 5), "node-exporter");
    assert_eq!(who(&reader, "10.0.0.1", 22, 5), "node-1");
}

#[test]
fn more_holders_than_an_address_has_room_for_make_it_ambiguous_not_wrong() {
    let (mut index, reader) = index();
    let mut holders: Vec<_> =
        (0..9).map(|i| index.bind(Address::ip(ip("10.0.0.5")), pod(&format!("p{i}")), Ts(i))).collect();
    let ninth = holders.pop().unwrap();
    for holder in holders.drain(1..) {
        index.release(holder, Ts(50));
    }
    // The first and the ninth hold it; only the first is recorded.
    assert_eq!(who(&reader, "10.0.0.5", 80, 60), "Ambiguous");
    index.release(ninth, Ts(70));
    assert_eq!(who(&reader, "10.0.0.5", 80, 71), "p0");
}

fn claim(origin: Origin, name: &str) -> Claim {
    Claim { who: pod(name), pod: None, origin }
}

#[test]
fn an_address_that_somebody_has_cannot_be_taken() {
    let (mut index, reader) = index();
    let address = || Address::ip(ip("10.0.0.5"));
    let victim = index.bind(address(), pod("victim"), Ts(10));
    let thief = index.claim(address(), claim(Origin::Taken, "thief"), Ts(20));
    let _second = index.claim(address(), claim(Origin::Taken, "second"), Ts(30));
    let at = |t| who(&reader, "10.0.0.5", 80, t);
    assert_eq!([15, 25, 99].map(at), ["victim", "victim", "victim"]);
    assert_eq!(index.contested(), 2);
    // It is free now: the first that took it has it.
    index.release(victim, Ts(100));
    assert_eq!([99, 100].map(at), ["victim", "thief"]);
    // Who is given it next has it at once.
    let _next = index.bind(address(), pod("next"), Ts(110));
    assert_eq!([105, 110].map(at), ["thief", "next"]);
    index.release(thief, Ts(120));
    assert_eq!([105, 115, 130].map(at), ["thief", "next", "next"]);
    assert_eq!(index.contested(), 2, "each claim once");
}

#[test]
fn who_takes_an_address_and_lets_it_go_again_and_again_blurs_nobodys_past() {
    let (mut index, reader) = index();
    let address = || Address::ip(ip("10.0.0.5"));
    let old = index.bind(address(), pod("old"), Ts(10));
    index.release(old, Ts(20));
    let _victim = index.bind(address(), pod("victim"), Ts(30));
    let mut held = Vec::new();
    for turn in 0..100 {
        let taken = index.claim(address(), claim(Origin::Taken, &format!("thief-{turn}")), Ts(15 + turn));
        match turn % 7 {
            0 => held.push(taken),
            _ => index.release(taken, Ts(40 + turn)),
        }
    }
    let at = |t| who(&reader, "10.0.0.5", 80, t);
    assert_eq!([9, 10, 19, 30, 99, 500].map(at), ["private", "old", "old", "victim", "victim", "victim"]);
    for taken in held {
        index.release(taken, Ts(600));
    }
    assert_eq!([10, 19, 30, 99, 700].map(at), ["old", "old", "victim", "victim", "victim"]);
    index.forget(Ts(3_600_000_000_000));
    assert_eq!(at(500), "victim");
}

#[test]
fn a_better_name_of_a_holder_leaves_its_claim_where_it_was() {
    let (mut index, reader) = index();
    let address = || Address::ip(ip("10.0.0.5"));
    let first = index.claim(address(), claim(Origin::Taken, "first"), Ts(10));
    let _second = index.claim(address(), claim(Origin::Taken, "second"), Ts(5));
    index.rename(&first, pod("first-deployment"), None);
    assert_eq!(
        [7, 10, 20].map(|t| who(&reader, "10.0.0.5", 80, t)),
        ["second", "first-deployment", "first-deployment"]
    );
}

#[test]
fn the_past_is_forgotten_after_its_time_and_the_present_is_not() {
    let (mut index, reader) = index();
    let minute = 60_000_000_000;
    let old = index.bind(Address::ip(ip("10.0.0.5")), pod("old"), Ts(0));
    index.release(old, Ts(minute));
    let _new = index.bind(Address::ip(ip("10.0.0.6")), pod("new"), Ts(0));
    index.forget(Ts(10 * minute));
    assert_eq!(who(&reader, "10.0.0.5", 80, 1), "old");
    index.forget(Ts(12 * minute));
    assert_eq!(who(&reader, "10.0.0.5", 80, 1), "private");
    assert_eq!(who(&reader, "10.0.0.6", 80, 1), "new");
    let addresses = index.metrics().into_iter().find(|f| f.name == "pilotfish_identity_addresses").unwrap();
    assert_eq!(addresses.value, 1);
}

#[test]
fn a_full_table_leaves_names_unknown_and_counts() {
    let mut index = IdentityIndex::new(Limits { addresses: 2, ..Limits::default() });
    let reader = index.reader(Addresses::ByClass);
    for i in 1..=3 {
        let _held = index.bind(Address::ip(ip(&format!("10.0.0.{i}"))), pod("p"), Ts(0));
    }
    assert_eq!(who(&reader, "10.0.0.3", 80, 1), "private");
    let refused = index.metrics().into_iter().find(|f| f.name == "pilotfish_identity_refused_total").unwrap();
    assert_eq!(refused.value, 1);
}

#[test]
fn a_namespace_is_pending_until_its_labels_are_known() {
    let (mut index, reader) = index();
    assert_eq!(reader.local(POD), Identity::Unknown(Unknown::Pending));
    let before = reader.version();
    assert!(index.set_slot(POD, Identity::Known(pod("web")), None));
    assert_ne!(reader.version(), before);
    assert_eq!(reader.local(POD), Identity::Known(pod("web")));
    index.release_slot(POD, Ts(1));
    assert_eq!(reader.local(POD), Identity::Known(pod("web")));
    index.forget(Ts(3_600_000_000_000));
    assert_eq!(reader.local(POD), Identity::Unknown(Unknown::Pending));
}

#[test]
fn names_of_this_node_are_awaited_while_they_are_on_their_way_and_no_others() {
    let (mut index, reader) = index();
    let remote = |address: &str| Endpoint { ip: ip(address), port: 80 };
    let awaits = |slot: Slot, address: &str| reader.awaits(slot, remote(address), Ts(100));
    let _held = index.bind(Address::ip(ip("10.0.0.2")), pod("api"), Ts(50));
    index.set_slot(POD, Identity::Known(pod("web")), None);
    let all = || [awaits(POD, "10.0.0.9"), awaits(Slot(2), "10.0.0.2")];
    assert_eq!(all(), [false; 2], "nothing is on its way");
    let expectation = index.expectation();
    let (first, second) = (expectation.begin(), expectation.begin());
    assert_eq!(all(), [true; 2], "an address that nobody has, and who lives in a namespace without a name");
    assert!(!awaits(POD, "10.0.0.2"), "both have names");
    assert!(!awaits(POD, "127.0.0.1") && !awaits(POD, "224.0.0.251"), "no pod's");
    drop(second);
    assert_eq!(all(), [true; 2]);
    let before = reader.version();
    drop(first);
    assert_eq!(all(), [false; 2]);
    assert_ne!(reader.version(), before, "who waited asks again");
}

#[test]
fn a_dns_answer_names_an_address_for_the_pod_that_got_it_while_it_is_valid() {
    let (_index, mut reader) = index();
    let second = 1_000_000_000;
    let before = reader.version();
    reader.dns_answer(POD, "API.example.COM", &[ip("93.184.216.34")], 60, Ts(second));
    assert_ne!(reader.version(), before);
    assert_eq!(who(&reader, "93.184.216.34", 443, 2 * second), "api.example.com");
    assert_eq!(who(&reader, "93.184.216.34", 443, 0), "public");
    assert_eq!(who(&reader, "93.184.216.34", 443, 62 * second), "public");
    let other = reader.remote(Slot(2), Endpoint { ip: ip("93.184.216.34"), port: 443 }, Ts(2 * second));
    assert!(matches!(other, Identity::Known(w) if w.kind == WorkloadKind::Address));
}

#[test]
fn the_last_of_several_names_wins_and_a_refresh_changes_no_version() {
    let (_index, mut reader) = index();
    reader.dns_answer(POD, "a.example", &[ip("1.2.3.4")], 60, Ts(1));
    reader.dns_answer(POD, "b.example", &[ip("1.2.3.4")], 60, Ts(2));
    assert_eq!(who(&reader, "1.2.3.4", 80, 3), "b.example");
    let before = reader.version();
    reader.dns_answer(POD, "b.example", &[ip("1.2.3.4")], 60, Ts(4));
    assert_eq!(reader.version(), before);
}

#[test]
fn names_by_dns_are_bounded_per_pod() {
    let (index, mut reader) = index();
    for i in 0..2_000u32 {
        reader.dns_answer(POD, "flood.example", &[IpAddr::from((0x0800_0000 + i).to_be_bytes())], 60, Ts(1));
    }
    let value = |name| index.metrics().into_iter().find(|f| f.name == name).unwrap().value;
    assert_eq!(value("pilotfish_identity_dns_names") + value("pilotfish_identity_dns_evicted_total"), 2_000);
    assert_eq!(value("pilotfish_identity_dns_names"), 512);
}

#[test]
fn a_handshake_names_an_outside_server_where_dns_does_not() {
    let (_index, mut reader) = index();
    let (second, cdn) = (1_000_000_000, ip("93.184.216.34"));
    let s = |seconds: u64| Ts(seconds * second);
    // The connection that told the name has it, from its first packet on.
    let before = reader.version();
    reader.server_name(POD, "Front.example", cdn, s(10), s(11));
    assert_ne!(reader.version(), before);
    let name = |reader: &_, at: u64| who(reader, "93.184.216.34", 443, at * second);
    assert_eq!([9, 10, 41, 42].map(|at| name(&reader, at)), ["public", "front.example", "front.example", "public"]);
    let other = reader.remote(Slot(2), Endpoint { ip: cdn, port: 443 }, s(11));
    assert!(
        matches!(other, Identity::Known(w) if w.kind == WorkloadKind::Address),
        "what one pod says names nothing for others"
    );
    // The same name again: older connections keep theirs.
    reader.server_name(POD, "front.example", cdn, s(100), s(101));
    assert_eq!([10, 120].map(|at| name(&reader, at)), ["front.example"; 2]);
    // DNS goes first, whoever comes first, while its answer is good.
    reader.dns_answer(POD, "dns.example", &[cdn], 60, s(110));
    reader.server_name(POD, "front.example", cdn, s(120), s(121));
    assert_eq!(name(&reader, 121), "dns.example");
    reader.server_name(POD, "front.example", cdn, s(171), s(172));
    assert_eq!(name(&reader, 172), "front.example");
}

#[test]
fn no_handshake_renames_who_is_known() {
    let (mut index, mut reader) = index();
    let _held = index.bind(Address::ip(ip("10.0.0.5")), pod("api"), Ts(0));
    reader.server_name(POD, "evil.example", ip("10.0.0.5"), Ts(1), Ts(2));
    assert_eq!(who(&reader, "10.0.0.5", 443, 2), "api");
    reader.server_name(POD, "evil.example", ip("127.0.0.1"), Ts(1), Ts(2));
    assert_eq!(who(&reader, "127.0.0.1", 443, 2), "loopback");
}

#[test]
fn names_by_handshakes_are_bounded_with_those_by_dns_and_take_no_place_of_them() {
    let (index, mut reader) = index();
    let address = |i: u32| IpAddr::from((0x0800_0000 + i).to_be_bytes());
    for i in 0..512 {
        reader.dns_answer(POD, "dns.example", &[address(i)], 60, Ts(1));
    }
    for i in 512..2_000 {
        reader.server_name(POD, &format!("flood{i}.example"), address(i), Ts(1), Ts(2));
    }
    let value = |name| index.metrics().into_iter().find(|f| f.name == name).unwrap().value;
    assert_eq!((value("pilotfish_identity_dns_names"), value("pilotfish_identity_dns_evicted_total")), (512, 1_488));
    assert_eq!(who(&reader, "8.0.0.0", 443, 2), "dns.example");
    // A minute later they are.
    let later = Ts(62_000_000_000);
    reader.server_name(POD, "late.example", address(3_000), later, later);
    assert_eq!(who(&reader, "8.0.11.184", 443, later.0), "late.example");
    assert_eq!(value("pilotfish_identity_dns_names"), 512);
}

#[test]
fn an_answer_that_blocks_a_name_names_nothing() {
    let (_index, mut reader) = index();
    reader.dns_answer(POD, "ads.example", &[ip("0.0.0.0"), ip("127.0.0.1")], 60, Ts(1));
    assert_eq!(who(&reader, "127.0.0.1", 80, 2), "loopback");
}

#[test]
fn a_capture_shows_addresses_themselves() {
    let index = IdentityIndex::new(Limits::default());
    let reader = index.reader(Addresses::ByAddress);
    assert_eq!(who(&reader, "10.0.0.5", 80, 1), "10.0.0.5");
}

// One address passes from pod to pod while another thread asks about what is past: pod n holds it in [10n, 10n + 5).
#[test]
fn a_reader_on_another_thread_never_sees_a_holder_of_another_time() {
    let (mut index, reader) = index();
    let past = AtomicU64::new(1);
    const PODS: u64 = 2_000;
    let named = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut named, mut asked) = (0u64, 0u64);
            while named == 0 || past.load(Ordering::Acquire) < 10 * PODS {
                asked = asked.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // The last few holders: older ones are dropped by and by.
                let past = past.load(Ordering::Acquire);
                let at = past.saturating_sub(1 + (asked >> 33) % 100);
                let name = who(&reader, "10.0.0.5", 80, at);
                if name != "private" {
                    assert_eq!((name, at % 10 < 5), (format!("p{}", at / 10), true), "at {at} of {past}");
                    named += 1;
                }
            }
            named
        });
        for n in 0..PODS {
            let binding = index.bind(Address::ip(ip("10.0.0.5")), pod(&format!("p{n}")), Ts(10 * n));
            index.release(binding, Ts(10 * n + 5));
            past.store(10 * (n + 1), Ordering::Release);
        }
        asking.join().unwrap()
    });
    assert!(named > 0);
}

/// (address, who, from, until)
type Row = (u8, String, u64, Option<u64>);

#[derive(Clone, Debug)]
enum Act {
    Bind {
        address: u8,
        pod: u8,
    },
    /// By right of nothing.
    Take {
        address: u8,
        pod: u8,
    },
    Release {
        nth: usize,
    },
    Forget,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u8..3, 0u8..6).prop_map(|(address, pod)| Act::Bind { address, pod }),
        2 => (0u8..3, 0u8..6).prop_map(|(address, pod)| Act::Take { address, pod }),
        4 => any::<usize>().prop_map(|nth| Act::Release { nth }),
        1 => Just(Act::Forget),
    ]
}

proptest! {
    // Against a list that forgets nothing: a name that the index gives is the one and only holder
    // of that time, within what is kept it gives one whenever there is one, and it never names a
    // holder of another time. Who takes an address has it only while nobody was given it.
    #[test]
    fn no_name_leaks_across_a_reuse(acts in prop::collection::vec((act(), 1u64..30), 1..60), asked in prop::collection::vec((0u8..3, 0u64..1_000), 50)) {
        let keep = 100;
        let mut index = IdentityIndex::new(Limits { keep: Duration::from_nanos(keep), ..Limits::default() });
        let reader = index.reader(Addresses::ByClass);
        let address = |i: u8| IpAddr::from([10, 0, 0, i]);
        let mut truth: Vec<Row> = Vec::new();
        let (mut held, mut taken): (Vec<_>, Vec<Row>) = Default::default();
        let (mut now, mut forgotten) = (0, 0);
        for (act, pause) in acts {
            now += pause;
            match act {
                Act::Bind { address: a, pod: p } => {
                    held.push((Some(()), truth.len(), index.bind(Address::ip(address(a)), pod(&format!("p{p}")), Ts(now))));
                    truth.push((a, format!("p{p}"), now, None));
                }
                Act::Take { address: a, pod: p } => {
                    let name = format!("t{p}");
                    let claim = Claim { who: pod(&name), pod: None, origin: Origin::Taken };
                    held.push((None, taken.len(), index.claim(Address::ip(address(a)), claim, Ts(now))));
                    taken.push((a, name, now, None));
                }
                Act::Release { nth } if !held.is_empty() => {
                    let (given, row, binding) = held.remove(nth % held.len());
                    index.release(binding, Ts(now));
                    let rows = if given.is_some() { &mut truth } else { &mut taken };
                    rows[row].3 = Some(now);
                }
                Act::Release { .. } => {}
                Act::Forget => {
                    index.forget(Ts(now));
                    forgotten = now.saturating_sub(keep);
                }
            }
        }
        for (a, at) in asked {
            let holders: Vec<&String> = truth.iter().filter(|(b, _, from, until)| *b == a && *from <= at && until.is_none_or(|u| at < u)).map(|(_, p, ..)| p).collect();
            let only = holders.first().filter(|first| holders.iter().all(|h| h == *first));
            let spans = truth.iter().filter(|(b, ..)| *b == a).count();
            match reader.remote(POD, Endpoint { ip: address(a), port: 80 }, Ts(at)) {
                Identity::Known(w) if w.name.starts_with('t') => {
                    let held = taken.iter().any(|(b, name, from, until)| *b == a && **name == *w.name && *from <= at && until.is_none_or(|u| at < u));
                    prop_assert!(held && (holders.is_empty() || spans > 8 || at < forgotten), "{} at {} of {:?}", w.name, at, holders);
                }
                Identity::Known(w) if w.kind == WorkloadKind::Pod => prop_assert_eq!(Some(&w.name.to_string()), only.copied()),
                Identity::Known(_) => prop_assert!(holders.is_empty() || spans > 8 || at < forgotten, "{:?} at {} is missing", holders, at),
                Identity::Unknown(_) => prop_assert!(holders.len() > 1 || spans > 8, "{:?} at {}", holders, at),
            }
        }
    }
}
