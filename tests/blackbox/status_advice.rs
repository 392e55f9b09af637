//! What `status` advises where a link is down can be done, and shows something, by whichever method the partner is reached.

use serde_json::json;

use crate::common::daemon::Plan;
use crate::common::partner::Partner;
use crate::common::responder::Responder;
use crate::common::socket::Socket;
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

#[tokio::test]
async fn of_two_endpoints_it_is_told_which_one_is_in_trouble() {
    let (partner, responder) = (Partner::new("globex"), Responder::listen().await);
    let keys = format!("{}\npoll_endpoint = \"http://{NOWHERE}/poll\"", responder.keys("push").trim_end());
    let daemon = Plan::new(false).with_peer(&partner, &keys).start().await;
    let advised = until("advice", async || {
        let status = daemon.get("/api/v1/peers/globex").await;
        (status["link"] == "down").then(|| status["advice"].clone())
    });
    let advice = advised.await;
    assert!(advice["why"].as_str().unwrap().starts_with("poll_endpoint: "), "{advice}");
    assert!(
        advice["fix"].as_str().unwrap().starts_with("pushpull status globex #"),
        "what is pushed shows nothing: {advice}"
    );
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_not_taken_for_a_proxy_though_the_partner_itself_is_connected() {
    let (partner, mut responder) = (Partner::new("globex"), Responder::listen().await);
    responder.refuse_websockets(401);
    let daemon = Plan::new(false).with_peer(&partner, &responder.keys("websocket")).start().await;
    let _socket = Socket::open(&daemon, &partner).await;
    let refusing = async {
        loop {
            responder.request().await.answer(401, &[("WWW-Authenticate", "Bearer")], "");
        }
    };
    let advised = until("advice", async || {
        let status = daemon.get("/api/v1/peers/globex").await;
        status.get("advice").cloned()
    });
    let advice = tokio::select! { () = refusing => unreachable!(), advice = advised => advice };
    assert_eq!(advice["code"], "no_websocket");
    assert!(advice["why"].as_str().unwrap().contains("it does not accept our token"), "{advice}");
    assert!(advice["fix"].as_str().unwrap().contains("`token_file`"), "{advice}");
}

#[tokio::test]
async fn a_full_inbox_is_told_of_until_somebody_has_confirmed() {
    let partner = Partner::new("globex");
    let plan = Plan::new(false).with("[limits]\ninbox_max = 1\n").with_peer(&partner, "transport = \"none\"");
    let daemon = plan.start().await;
    let told = async || daemon.get("/api/v1/peers").await["inbox"].clone();
    assert_eq!(told().await, json!(null));
    partner.exchange(&daemon, &json!({"sets": {"one": partner.set("one")}})).await;
    let inbox = told().await;
    assert_eq!(inbox["code"], "inbox_full", "{inbox}");
    let (code, text) = daemon.cli(&["status"]).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("limits.inbox_max") && text.contains("pushpull explain inbox_full"), "{text}");
    daemon.get("/api/v1/inbox?consumer=app").await;
    let confirmed = daemon.admin("POST", "/api/v1/inbox/confirm", Some(&json!({"consumer": "app", "up_to": 1}))).await;
    assert_eq!(confirmed.status(), 200, "{}", confirmed.text());
    assert_eq!(told().await, json!(null));
}
