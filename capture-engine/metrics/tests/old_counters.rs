//! The counters that an agent of 0.1.0 wrote at the end of a demo go on where they were.

mod common;

use common::{CONFIG, two_pods};
use flow_model::Ts;
use golden_metrics::{Exposition, Format, Golden, Losses, Saved};

#[test]
fn counters_of_a_real_agent_of_0_1_0_all_go_on() {
    let file: serde_json::Value = serde_json::from_str(include_str!("fixtures/counters-0.1.0-demo.json")).unwrap();
    let saved: Saved = serde_json::from_str(&file["counted"].to_string()).unwrap();
    assert_eq!(saved.series(), 52);

    let losses = Losses::default();
    losses.place("kernel", "ring_full", "message heads");
    let (mut golden, reader) = Golden::new(two_pods(), CONFIG, &losses);
    golden.restore(&saved, &losses, Ts(2_000_000_000));
    golden.publish();
    let text = String::from_utf8(Exposition::render(&reader.snapshot(), &[], Format::Text)).unwrap();

    // The agent's own sums over all series, beside the sums of the series.
    let sum = |name: &str, label: &str| -> u64 {
        let of_it = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    for (reporter, http, dns) in [("client", 3_431, 172), ("server", 3_432, 172)] {
        let label = format!("reporter=\"{reporter}\"");
        let total = |protocol: &str| {
            sum(&format!("pilotfish_exchanges_total{{reporter=\"{reporter}\",protocol=\"{protocol}\"}}"), "")
        };
        assert_eq!((total("http1"), total("dns")), (http, dns), "{reporter}");
        assert_eq!(sum(&format!("http_{reporter}_request_duration_seconds_count{{"), &label), http, "{reporter}");
        assert_eq!(sum("dns_lookup_duration_seconds_count{", &label), dns, "{reporter}");
    }
    assert_eq!(sum("pilotfish_exchanges_lost_total{", "reporter=\"client\""), 612);
    assert_eq!(sum("pilotfish_exchanges_lost_total{", "reporter=\"server\""), 611);
    assert_eq!(sum("pilotfish_lost_total{", "reason=\"ring_full\""), 2_443);
    assert!(sum("pilotfish_tcp_sent_bytes_total{", "") > 0 && sum("pilotfish_udp_sent_bytes_total{", "") > 0);
}
