//! `pilotfish tap`: exchanges as they end, a line each.

use super::output::{plain_json, write};
use crate::cli::args::{Output, TapArgs};
use crate::cli::moment::clock_time;
use crate::cli::table::{bytes, latency};
use crate::exit::{Exit, Failure};
use agent_api::{Client, Heard, Lines, Party, TapEnd, TapExchange, TapLine, TapLoss};
use flow_model::shown;
use golden_metrics::TapQuery;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Prints until the limit, the reader's end or the agent's.
pub fn run(socket: &Path, args: &TapArgs) -> Result<(), Failure> {
    let mut parameters = args.wanted.parameters();
    parameters.extend(args.limit.map(|limit| ("limit", limit.to_string())));
    let mut lines = open(socket, &parameters)?;
    loop {
        let line = match lines.next(None)? {
            Heard::Line(line) => line,
            Heard::Quiet => continue,
            Heard::End => return Err(gone(socket)),
        };
        let told = read(socket, &line)?;
        if let TapLine::End(TapEnd { reason }) = told {
            return ended(socket, &reason);
        }
        let text = match args.output {
            Output::Json => plain_json(&line) + "\n",
            Output::Table => sentence(&told),
        };
        if !write(&text)? {
            return Ok(());
        }
    }
}

/// What cannot be asked for is refused before anybody is asked.
pub fn open(socket: &Path, parameters: &[(&str, String)]) -> Result<Lines, Failure> {
    TapQuery::read(parameters.iter().map(|(name, value)| (*name, value.as_str())))
        .map_err(|wrong| Failure::say(Exit::Usage, wrong))?;
    Ok(Client::new(socket).tap(parameters)?)
}

pub fn read(socket: &Path, line: &str) -> Result<TapLine, Failure> {
    serde_json::from_str(line).map_err(|error| {
        let text = format!("what answers on {} is no agent of this version", socket.display());
        Failure::new(Exit::Unavailable, anyhow::Error::new(error).context(text))
    })
}

/// The connection ended without a word.
pub fn gone(socket: &Path) -> Failure {
    Failure::say(Exit::Unavailable, format!("the agent on {} went away", socket.display()))
}

/// The agent said that it ends here.
pub fn ended(socket: &Path, reason: &str) -> Result<(), Failure> {
    match reason {
        "limit" => Ok(()),
        "stopping" => Err(Failure::say(Exit::Unavailable, format!("the agent on {} stops", socket.display()))),
        other => Err(Failure::say(Exit::Unavailable, format!("the agent on {} ended it: {other}", socket.display()))),
    }
}

/// Empty for what is nothing to a person, or of a later agent.
fn sentence(line: &TapLine) -> String {
    match line {
        TapLine::Exchange(exchange) => format!("{}\n", shown(&exchanged(exchange))),
        TapLine::Lost(loss) => format!("-- {}\n", lost(loss)),
        TapLine::End(_) | TapLine::Other => String::new(),
    }
}

/// What is missing at a place of the stream.
pub fn lost(TapLoss { reason, count }: &TapLoss) -> String {
    let plural = if *count == 1 { "" } else { "s" };
    match reason.as_str() {
        "slow_reader" => format!("{count} record{plural} lost: this reader was too slow"),
        reason => format!("{count} exchange{plural} of these workloads not seen whole: {}", shown(reason)),
    }
}

fn exchanged(exchange: &TapExchange) -> String {
    let TapExchange { end_unix_nano, src, dst, src_address, dst_address, reporter, protocol, .. } = exchange;
    let TapExchange { operation, target, status, duration_ns, request_bytes, response_bytes, notes, .. } = exchange;
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(*end_unix_nano));
    let at = clock_time(at.unwrap_or(SystemTime::UNIX_EPOCH));
    let what: Vec<&str> = [operation, target].into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
    let what = if what.is_empty() { "-".to_owned() } else { what.join(" ") };
    let took = latency(*duration_ns);
    let (asked, answered) = (bytes(*request_bytes), bytes(*response_bytes));
    let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join(", ")) };
    let (client, server) = (end(src, src_address), end(dst, dst_address));
    format!(
        "{at}  {client} -> {server}  {protocol}  {what}  {status}  {took}  {asked} in, {answered} out  by {reporter}{notes}"
    )
}

/// Who that is; where nobody knows, the address.
pub fn end(Party { name, namespace, kind }: &Party, address: &str) -> String {
    let is_unknown = name == golden_metrics::UNKNOWN || kind == "Address";
    match (is_unknown, namespace.as_str()) {
        (true, _) => format!("{name} ({address})"),
        (false, "") => name.clone(),
        (false, namespace) => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn party(name: &str, kind: &str) -> Party {
        let namespace = if kind == "Deployment" { "shop" } else { "" };
        Party { name: name.into(), namespace: namespace.into(), kind: kind.into() }
    }

    fn get() -> TapExchange {
        TapExchange {
            end_unix_nano: 1_795_242_600_250_000_000,
            duration_ns: Some(1_234_000),
            src: party("web", "Deployment"),
            dst: party("api", "Deployment"),
            src_address: "10.0.0.1:40000".into(),
            dst_address: "10.0.0.2:80".into(),
            reporter: "server".into(),
            protocol: "http1".into(),
            operation: "GET".into(),
            target: "/items/7".into(),
            status: "200".into(),
            outcome: "answered".into(),
            request_bytes: 120,
            response_bytes: 1536,
            ..TapExchange::default()
        }
    }

    #[test]
    fn a_line_says_who_asked_whom_for_what_and_how_it_ended() {
        let unknown = TapExchange {
            src: party("_unknown", "NotFound"),
            dst: party("private", "Address"),
            protocol: "redis".into(),
            operation: "BLPOP".into(),
            target: String::new(),
            status: "unanswered".into(),
            duration_ns: None,
            notes: vec!["joined_midway".into(), "waited".into()],
            ..get()
        };
        let outside =
            TapExchange { dst: party("example.com", "External"), operation: String::new(), ..unknown.clone() };
        let lost = |reason: &str, count| TapLine::Lost(TapLoss { reason: reason.into(), count });
        let lines = [
            TapLine::Exchange(Box::new(get())),
            TapLine::Exchange(Box::new(unknown)),
            TapLine::Exchange(Box::new(outside)),
            lost("slow_reader", 904),
            lost("ring_full", 1),
            TapLine::Other,
        ];
        expect![[r#"
            06:30:00.2  shop/web -> shop/api  http1  GET /items/7  200  1.23ms  120B in, 1.5KiB out  by server
            06:30:00.2  _unknown (10.0.0.1:40000) -> private (10.0.0.2:80)  redis  BLPOP  unanswered  -  120B in, 1.5KiB out  by server  (joined_midway, waited)
            06:30:00.2  _unknown (10.0.0.1:40000) -> example.com  redis  -  unanswered  -  120B in, 1.5KiB out  by server  (joined_midway, waited)
            -- 904 records lost: this reader was too slow
            -- 1 exchange of these workloads not seen whole: ring_full
        "#]]
        .assert_eq(&lines.iter().map(sentence).collect::<String>());
    }

    #[test]
    fn what_others_wrote_is_one_line_that_no_terminal_obeys() {
        let evil = TapExchange { target: "/\x1b[2J\n\u{202e}".into(), status: "\r".into(), ..get() };
        let text = sentence(&TapLine::Exchange(Box::new(evil)));
        assert_eq!(text.lines().count(), 1);
        assert!(text.trim_end().chars().all(flow_model::is_plain), "{text:?}");
    }

    #[test]
    fn each_end_of_the_stream_has_its_exit_code() {
        let socket = Path::new("/a.sock");
        assert!(ended(socket, "limit").is_ok());
        let code = |reason| ended(socket, reason).expect_err("an end").exit.code();
        assert_eq!([code("stopping"), code("rain"), gone(socket).exit.code()], [69; 3]);
        let wrong = open(Path::new("/nonexistent/a.sock"), &[("status", "6xx".to_owned())]).expect_err("no status");
        assert_eq!((wrong.exit, wrong.to_string().contains("5xx")), (Exit::Usage, true), "nobody was asked");
    }
}
