//! `pushpull bench --target`: the load against a partner's own Transceiver, which has to allow it.

use std::path::Path;

use serde_json::Value;

use crate::common::daemon::{ISSUER, Plan, program};

/// The bench with its identity in this folder, and how it ended.
fn bench(identity: &Path, target: &str, audience: &str) -> (Option<i32>, Value, String) {
    let identity = identity.to_str().unwrap();
    let arguments = ["bench", "--json", "--target", target, "--audience", audience, "--identity", identity];
    let load = ["--rate", "200", "--warmup", "100ms", "--duration", "500ms"];
    let output = program(&[&arguments[..], &load[..]].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_allows_the_bench_gets_its_load_and_any_other_one_event_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let identity = folder.path().join("identity");
    let (exit, made, err) = bench(&identity, "ws://127.0.0.1:1/pushpull", ISSUER);
    assert_eq!((exit, made["ok"].as_bool()), (Some(0), Some(true)), "{err}");
    let place = |name: &str| format!("\"{}\"", identity.join(name).display());
    let block = made["peer"].as_str().unwrap();
    let block = block.replace("\"jwks.json\"", &place("jwks.json")).replace("\"token\"", &place("token"));
    assert!(block.contains("accept = [\"bench:*\"]"), "{block}");

    let daemon = Plan::new(false).with(&block).start().await;
    let target = format!("ws://{}/pushpull", daemon.address());
    let run = |target: &str, audience: &str| {
        let (identity, target, audience) = (identity.clone(), target.to_owned(), audience.to_owned());
        tokio::task::spawn_blocking(move || bench(&identity, &target, &audience))
    };
    let mut received = 0;
    for target in [&*target, &target.replace("ws://", "http://")] {
        let (exit, report, err) = run(target, ISSUER).await.unwrap();
        assert_eq!((exit, report["ok"].as_bool()), (Some(0), Some(true)), "{report}{err}");
        let (sent, acked) = (report["sent"].as_u64().unwrap(), report["acked"].as_u64().unwrap());
        assert!(sent >= 100 && sent == acked, "{report}");
        for stage in ["total", "sign", "store"] {
            assert!(report["cpu_us_per_set"][stage].as_f64() > Some(0.0), "{stage}: {report}");
        }
        received += sent + 1;
        let counted = daemon.totals("bench").await["received"].as_u64().unwrap();
        assert_eq!(counted, received, "and the one that was sent to see whether it may");
    }

    let (exit, _, err) = run(&target, "https://other.example").await.unwrap();
    assert!(exit == Some(8) && err.contains("invalid_audience") && err.contains("--audience"), "{exit:?} {err}");
    let (exit, _, err) = run(&target.replace("ws://", "wss://"), ISSUER).await.unwrap();
    assert!(exit == Some(8) && err.contains("TLS"), "{exit:?} {err}");
    daemon.edit(|text| text.replace("bench:*", "caep:*"));
    daemon.reload().await;
    let (exit, _, err) = run(&target, ISSUER).await.unwrap();
    assert!(exit == Some(8) && err.contains("access_denied") && err.contains("bench:*"), "{exit:?} {err}");
    let refused = daemon.totals("bench").await;
    assert_eq!((&refused["rejected"], &refused["received"]), (&2.into(), &received.into()), "one each time");
    let (exit, _, err) = run("ws://127.0.0.1:1/pushpull", ISSUER).await.unwrap();
    assert!(exit == Some(8) && err.contains("refused the connection"), "{exit:?} {err}");
}
