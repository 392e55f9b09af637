//! `pushpull bench` as a person runs it: small loads, every SET accounted for. What is fast is not asked here.

use std::process::Command;

use serde_json::Value;

/// The report of a bench that must end well.
#[track_caller]
fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_pushpull"))
        .args(["bench", "--json"])
        .args(arguments)
        .output()
        .expect("the program starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    serde_json::from_str(&out).expect("one JSON document")
}

#[track_caller]
fn accounted(report: &Value, directions: usize) -> u64 {
    let all = report["directions"].as_array().expect("directions");
    assert_eq!(all.len(), directions, "{report}");
    let mut sent = 0;
    for direction in all {
        for none in ["lost", "doubled", "strange", "unacked"] {
            assert_eq!(direction[none], 0, "{none} in {direction}");
        }
        assert_eq!(direction["sent"], direction["acked"]);
        assert_eq!(direction["sent"], direction["received"]);
        assert!(direction["sent"].as_u64() > Some(20), "{direction}");
        sent += direction["sent"].as_u64().unwrap_or(0);
    }
    assert!(report["latency"]["p50_ms"].as_f64() > Some(0.0), "{report}");
    sent
}

#[test]
fn both_ways_over_a_websocket_with_tls_and_all_stages_cost_something() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("bench.svg");
    let report = bench(&["--warmup", "200ms", "--duration", "1s", "--callers", "16", "--svg", svg.to_str().unwrap()]);
    accounted(&report, 2);
    assert!(report["ratio"].as_f64() > Some(0.0) && report["bound"]["sets_per_s"].as_f64() > Some(0.0), "{report}");
    for stage in ["sign", "frame", "store", "verify", "ack", "load", "total"] {
        assert!(report["cpu_us_per_set"][stage].as_f64() > Some(0.0), "{stage}: {report}");
    }
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert_eq!(drawn.matches("<polyline").count(), 2, "two curves");
}

#[test]
fn over_http_in_plaintext_at_a_fixed_rate_one_way_with_many_partners() {
    let arguments = ["--transport", "http", "--no-tls", "--rate", "200", "--direction", "one", "--partners", "5"];
    let report = bench(&[&arguments[..], &["--warmup", "200ms", "--duration", "1s", "--alg", "EdDSA"]].concat());
    assert!(accounted(&report, 1) >= 200, "{report}");
}

#[test]
fn several_transports_are_measured_in_turns_and_compared() {
    let turns = ["--transport", "websocket,push", "--direction", "one", "--runs", "2"];
    let report = bench(&[&turns[..], &["--warmup", "200ms", "--duration", "500ms", "--callers", "16"]].concat());
    let parts = report["transports"].as_array().unwrap();
    assert_eq!(parts.iter().map(|part| part["transport"].as_str().unwrap()).collect::<Vec<_>>(), ["websocket", "push"]);
    for part in parts {
        let runs = part["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2);
        for run in runs {
            assert_eq!(run["settings"]["transport"], part["transport"]);
            accounted(run, 1);
        }
        assert!(part["median"]["sets_per_s"].as_f64() > Some(0.0), "{part}");
    }
    let compared = report["compared"].as_array().unwrap();
    assert_eq!(
        (compared.len(), &compared[0]["transport"], &compared[0]["over"]),
        (1, &"websocket".into(), &"push".into())
    );
    let ratio = |name: &str| compared[0][name].as_f64().unwrap();
    assert!(ratio("least") > 0.0 && ratio("least") <= ratio("sets_per_s_ratio"), "{compared:?}");
    assert!(ratio("sets_per_s_ratio") <= ratio("most"), "{compared:?}");
}

#[test]
fn relayed_sets_end_the_measurement_when_they_are_used_up() {
    let report = bench(&["--presigned=400", "--callers", "4", "--warmup", "0ms", "--duration", "20s"]);
    assert_eq!(accounted(&report, 2), 800);
    assert!(report["directions"].as_array().unwrap().iter().any(|direction| direction["used_up"] == true), "{report}");
}

#[test]
fn a_backlog_leaves_in_its_order_and_what_is_left_waits() {
    let report = bench(&[
        "--backlog",
        "3000",
        "--tombstones",
        "500",
        "--mute",
        "200",
        "--rate",
        "20",
        "--direction",
        "one",
        "--warmup",
        "200ms",
        "--duration",
        "1s",
        "--restart",
    ]);
    let direction = &report["directions"][0];
    for none in ["lost", "doubled", "strange", "unacked"] {
        assert_eq!(direction[none], 0, "{none} in {direction}");
    }
    let number = |name: &str| direction[name].as_u64().expect("a number");
    assert_eq!(number("queued_before"), 3000);
    assert_eq!(number("sent"), number("acked") + number("queued_after"), "{direction}");
    assert_eq!(report["restart"]["queued"].as_u64(), Some(number("queued_after")), "{report}");
}

#[test]
fn a_partner_that_floods_is_in_nobodys_accounts_and_the_others_are_complete() {
    let load = ["--flood", "costly", "--rate", "100", "--direction", "one", "--warmup", "200ms", "--duration", "1s"];
    let report = bench(&load);
    assert!(accounted(&report, 1) >= 100, "{report}");
    assert_eq!(report["settings"]["flood"], "costly", "{report}");
    assert!(report["flooded_sets"].as_u64() > Some(1_600), "{report}");
}

#[test]
fn a_folder_that_is_there_is_nobody_elses_business() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("run-1/mine");
    std::fs::create_dir(folder.path().join("run-1")).unwrap();
    std::fs::write(&kept, "mine").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pushpull"))
        .args(["bench", "--dir", folder.path().to_str().unwrap()])
        .output()
        .expect("the program starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{err}");
    assert!(err.contains("run-1 is there already") && err.contains("--dir"), "{err}");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "mine");
}
