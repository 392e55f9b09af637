//! What an exposition says, to the letter.

use std::thread;

use super::*;

fn exposed(metrics: &Metrics) -> String {
    metrics.expose(Format::OpenMetrics).unwrap()
}

#[test]
fn a_peers_series_are_there_from_the_beginning_and_end_with_it() {
    let metrics = Metrics::new();
    let peer = metrics.peer("globex");
    peer.rejected.add("invalid_key", 2);
    let text = exposed(&metrics);
    assert!(text.contains("pushpull_sets_acked_total{peer=\"globex\"} 0\n"), "{text}");
    assert!(text.contains("pushpull_sets_rejected_total{peer=\"globex\",code=\"invalid_key\"} 2\n"), "{text}");
    peer.set_gauges(&Gauges::default());
    drop(peer);
    assert!(!exposed(&metrics).contains("globex"), "{}", exposed(&metrics));
}

#[test]
fn a_peer_that_is_replaced_keeps_its_series() {
    let metrics = Metrics::new();
    let (first, second) = (metrics.peer("globex"), metrics.peer("globex"));
    first.acked.add(3);
    drop(first);
    second.acked.add(4);
    assert!(exposed(&metrics).contains("pushpull_sets_acked_total{peer=\"globex\"} 7\n"));
}

#[test]
fn methods_that_nobody_knows_are_one() {
    let metrics = Metrics::new();
    for method in ["GET", "BREW", "CANARY"] {
        metrics.answered("/pushpull", method, 405, Duration::ZERO);
    }
    let text = exposed(&metrics);
    assert!(!text.contains("BREW") && text.contains("method=\"other\""), "{text}");
}

#[test]
fn openmetrics_is_for_those_who_name_it() {
    let scraper = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    assert_eq!(Format::wanted(scraper), Format::OpenMetrics);
    for other in ["", "*/*", "text/plain", "text/html, application/json"] {
        assert_eq!(Format::wanted(other), Format::Prometheus, "{other}");
    }
}

#[test]
fn a_scrape_may_come_to_hold_the_last_handle_of_a_peer() {
    let metrics = Metrics::new();
    let coming_and_going = thread::spawn({
        let metrics = metrics.clone();
        move || (0..2_000).for_each(|_| metrics.peer("globex").acked.add(1))
    });
    while !coming_and_going.is_finished() {
        exposed(&metrics);
    }
    coming_and_going.join().unwrap();
    assert!(!exposed(&metrics).contains("globex"), "its series have ended");
}

#[test]
fn a_peer_that_comes_back_goes_on_if_anybody_still_holds_it_and_begins_anew_if_not() {
    let metrics = Metrics::new();
    let before = metrics.peer("globex");
    before.acked.add(3);
    let after = metrics.peer("globex");
    after.acked.add(1);
    // As when the connection of a partner that was removed ends later than that.
    drop(before);
    assert!(exposed(&metrics).contains("pushpull_sets_acked_total{peer=\"globex\"} 4\n"));
    drop(after);
    let again = metrics.peer("globex");
    assert!(exposed(&metrics).contains("pushpull_sets_acked_total{peer=\"globex\"} 0\n"));
    drop(again);
}

#[test]
fn what_was_not_told_in_time_stands_as_it_was() {
    let metrics = Metrics::new();
    let peer = metrics.peer("globex");
    peer.set_gauges(&Gauges::default());
    let text = exposed(&metrics);
    assert!(!text.contains("pushpull_queue_sets{") && !text.contains("pushpull_jwks_age_seconds"), "{text}");
    let figures = Some(Figures { queued: 7, ..Figures::default() });
    peer.set_gauges(&Gauges { figures, jwks_age: Some(Duration::from_secs(5)), sockets: 1, ..Gauges::default() });
    peer.set_gauges(&Gauges { sockets: 2, ..Gauges::default() });
    let text = exposed(&metrics);
    for line in [
        "queue_sets{peer=\"globex\"} 7.0",
        "jwks_age_seconds{peer=\"globex\"} 5.0",
        "ws_connections{peer=\"globex\"} 2.0",
    ] {
        assert!(text.contains(&format!("pushpull_{line}\n")), "{line}: {text}");
    }
    assert!(text.contains("pushpull_peer_scraped{peer=\"globex\"} 0.0\n"), "{text}");
}

/// What Prometheus has stored goes on only under the very same names and labels. If this fails because a metric is new, add
/// it here; if one has changed, think of everybody's dashboards.
#[test]
fn the_exposition_is_written_as_ever() {
    let metrics = Metrics::new();
    let (acme, globex) = (metrics.peer("acme"), metrics.peer("globex"));
    acme.accepted.add("caep:session-revoked", 3);
    acme.accepted.add("other", 1);
    acme.received.add("other", 2);
    acme.rejected.add("other", 4);
    acme.invalid.add("invalid_key", 5);
    acme.dead.add("age", 1);
    acme.retries.add("lost", 7);
    for code in [None, Some(1008), Some(4000), Some(1000)] {
        acme.closed(code);
    }
    acme.duplicate.add(2);
    acme.reconnects.add(1);
    acme.sent(Transport::Websocket, 3, 1_000);
    acme.received_bytes(Transport::Http, 77);
    acme.verification("out", "acked");
    acme.verification("in", "acked");
    globex.acked.add(9);
    globex.sent(Transport::Http, 1, 10);
    globex.fetched_keys(true);
    globex.fetched_keys(false);
    for value in [0.0001, 0.005, 0.3, 100_000.0] {
        acme.delivery.observe(value);
        globex.ack_latency.observe(value);
        globex.receive.observe(value);
    }
    for (algorithm, micros) in [("ES256", 70), ("EdDSA", 20)] {
        metrics.signed(algorithm, Duration::from_micros(micros));
    }
    metrics.verified(Duration::from_micros(71));
    metrics.committed(Duration::from_millis(3), 100);
    metrics.committed(Duration::from_secs(30), 100_000);
    metrics.answered("/pushpull", "GET", 200, Duration::from_millis(3));
    metrics.certificate_expires(1e9);
    metrics.inbox(4);
    metrics.disk_full(true);
    let oldest = Duration::from_millis(1500);
    let gauges = Gauges {
        figures: Some(Figures { queued: 1, oldest, in_flight: 2, owed: 3, dead_letters: 4 }),
        state: ["up", "down"],
        connected_at: 1.5,
        last_ack_at: 2.5,
        sockets: 1,
        jwks_age: Some(Duration::from_secs(5)),
    };
    acme.set_gauges(&gauges);
    globex.set_gauges(&Gauges { figures: None, jwks_age: None, state: ["paused", "up"], ..gauges });
    let text = exposed(&metrics).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    // Of the process and the one of reloads: in no order of their own.
    let told = |line: &&str| !line.contains("process_") && !line.starts_with("pushpull_config_reloads_total");
    let lines: Vec<&str> = text.lines().filter(told).collect();
    for (number, (line, expected)) in lines.iter().zip(EXPOSITION.lines()).enumerate() {
        assert_eq!(*line, expected, "in line {} of exposition.txt", number + 1);
    }
    assert_eq!(lines.len(), EXPOSITION.lines().count());
}

const EXPOSITION: &str = include_str!("exposition.txt");
