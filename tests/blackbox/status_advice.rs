//! What `status` advises where a link is down can be done, and shows something, by whichever method the partner is reached.

use serde_json::json;

use crate::common::daemon::Plan;
use crate::common::partner::Partner;
use crate::common::until;

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

#[tokio::test]
async fn a_link_is_to_be_verified_only_where_something_of_ours_goes_by_it() {
    let methods = [
        ("websocket", "ws"),
        ("http", "http"),
        ("push", "http"),
        ("multi-push", "http"),
        ("poll", "http"),
        ("none", ""),
    ];
    let mut plan = Plan::new(false);
    for (method, scheme) in methods {
        let keys = match method {
            "none" => "transport = \"none\"".to_owned(),
            _ => format!("transport = \"{method}\"\nendpoint = \"{scheme}://{NOWHERE}/{method}\""),
        };
        plan = plan.with_peer(&Partner::new(&format!("by-{method}")), &keys);
    }
    let daemon = plan.start().await;
    for (method, _) in methods {
        let peer = format!("by-{method}");
        daemon.send(&peer, &format!("event-{method}")).await;
        let path = format!("/api/v1/peers/{peer}");
        let advised = until("advice", async || {
            let status = daemon.get(&path).await;
            (status["link"] == "down").then(|| status["advice"].clone())
        });
        let advice = advised.await;
        assert_eq!((&advice["code"], &advice["who_acts"]), (&json!("link_down"), &json!("you and the partner")));
        let fix = advice["fix"].as_str().unwrap();
        let verified = fix.starts_with(&format!("pushpull peer verify {peer} #"));
        assert_eq!(verified, !matches!(method, "poll" | "none"), "{method}: {fix}");
        assert!(verified || fix.starts_with(&format!("pushpull status {peer} #")), "{method}: {fix}");
        let (code, told) = daemon.cli(&["status", &peer]).await;
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains(fix), "{told}");
    }
    // Whoever tries it all the same is told why nothing came of it.
    let verify = async |peer: &str| {
        let answer = daemon.admin("POST", &format!("/api/v1/peers/{peer}/verify"), None).await;
        assert_eq!(answer.status(), 504, "{}", answer.text());
        answer.json()["fix"].as_str().unwrap().to_owned()
    };
    let (polled, coming, pushed) = tokio::join!(verify("by-poll"), verify("by-none"), verify("by-push"));
    for (peer, fix) in [("by-poll", polled), ("by-none", coming)] {
        assert!(fix.contains(&format!("when {peer} polls us or connects")), "{fix}");
    }
    assert!(pushed.contains("pushpull status"), "{pushed}");
}
