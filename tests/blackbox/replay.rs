//! Saying again what a partner had: each SET once a job, whatever happens meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::common::daemon::{Daemon, Plan};
use crate::common::http::Message;
use crate::common::link::Link;
use crate::common::partner::{Partner, opened};
use crate::dead_letters::{IMPATIENT, PATIENT, give_up, refuse};

/// What the partner has got, by jti: the tokens.
type Got = BTreeMap<String, String>;

/// The partner takes and acks all there is.
async fn drain(daemon: &Daemon, partner: &Partner) -> Got {
    let (mut got, mut ack) = (Got::new(), Vec::new());
    loop {
        let answer = partner.exchange(daemon, &json!({"ack": ack})).await;
        let sets = answer["sets"].as_object().cloned().unwrap_or_default();
        if sets.is_empty() && ack.is_empty() {
            return got;
        }
        ack = sets.keys().cloned().collect();
        got.extend(sets.into_iter().map(|(jti, set)| (jti, set.as_str().unwrap().to_owned())));
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// About whom the SETs are, with how many of them.
fn subjects(got: &Got) -> BTreeMap<String, usize> {
    let mut subjects = BTreeMap::new();
    for set in got.values() {
        *subjects.entry(opened(set).1["sub_id"].to_string()).or_default() += 1;
    }
    subjects
}

async fn replay(daemon: &Daemon, body: &Value) -> Message {
    daemon.admin("POST", "/api/v1/peers/globex/replay", Some(body)).await
}

async fn replayed(daemon: &Daemon, body: &Value) -> Value {
    let answer = replay(daemon, body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

async fn cli(daemon: &Daemon, arguments: &[&str], code: i32) -> String {
    let (found, shown) = daemon.cli(arguments).await;
    assert_eq!(found, Some(code), "{shown}");
    shown
}

/// The document among what was printed: what is not the result stands before it, on stderr.
fn document(shown: &str) -> Value {
    let line = shown.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{shown}"));
    serde_json::from_str(line).unwrap()
}

#[tokio::test]
async fn what_was_answered_is_reissued_and_what_was_not_is_resent() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(IMPATIENT).with_peer(&partner, "").start().await;
    daemon.send_all("globex", &names("acked", 3)).await;
    let first = drain(&daemon, &partner).await;
    let mut link = Link::http(&daemon, &partner);
    daemon.send("globex", "refused").await;
    let refused = link.fetch("refused").await;
    refuse(&daemon, &partner, &mut link, &["refused".to_owned()], "invalid_key", 1).await;
    daemon.send("globex", "dead").await;
    let dead = give_up(&daemon, &partner, "dead").await;
    daemon.send("globex", "waiting").await;
    let before = daemon.totals("globex").await;

    let shown = cli(&daemon, &["replay", "globex", "--since", "1h", "--dry-run", "--json"], 0).await;
    let plan = document(&shown);
    let counts =
        |document: &Value| ["reissued", "resent", "before", "queued"].map(|name| document[name].as_u64().unwrap());
    assert_eq!(counts(&plan), [4, 1, 0, 1], "{plan}");
    assert!(plan["short"] == false && plan["failed"] == json!([]) && plan["bytes"].as_u64() > Some(1_000), "{plan}");
    assert_eq!(daemon.totals("globex").await, before, "counting changes nothing");
    let shown = cli(&daemon, &["replay", "globex", "--since", "1h", "-n"], 0).await;
    assert!(shown.contains("4  acked or refused") && shown.contains("1  never answered"), "{shown}");

    let shown = cli(&daemon, &["replay", "globex", "--since", "1h", "--job", "j-1", "--json"], 0).await;
    let done = document(&shown);
    assert_eq!(counts(&done)[..3], [4, 1, 0], "{done}");
    assert!(shown.contains("--job j-1"), "how to go on is printed: {shown}");
    let got = drain(&daemon, &partner).await;
    assert_eq!(got.len(), 6, "{got:?}");
    assert_eq!(got["dead"], dead, "the same bytes");
    assert!(got.contains_key("waiting"));
    let mut again = first.clone();
    again.insert("refused".to_owned(), refused);
    for (jti, old) in &again {
        let old = opened(old).1;
        let same = |set: &String| {
            ["sub_id", "events", "txn", "iss", "aud"].iter().all(|name| opened(set).1[name] == old[name])
        };
        let new: Vec<_> = got.iter().filter(|(_, set)| same(set)).collect();
        let [(new, _)] = new[..] else { panic!("{jti}: {new:?}") };
        assert!(!again.contains_key(new), "under a jti of its own");
        let shown = cli(&daemon, &["event", "show", new], 0).await;
        assert!(shown.contains(&format!("reissued  of {jti}")), "{shown}");
    }

    // The same job finds everything done, as it goes on by the command that was printed.
    let go_on = shown.lines().find_map(|line| line.split_once("pushpull replay ")).unwrap().1;
    let go_on: Vec<&str> = ["replay"].into_iter().chain(go_on.split(' ')).collect();
    let shown = cli(&daemon, &go_on, 0).await;
    assert!(shown.contains("globex: 0 reissued, 0 resent, 3 by this job before"), "{shown}");
    assert!(drain(&daemon, &partner).await.is_empty());
    // Whoever means something else by it is told, and nothing is done.
    for other in [&["--since", "1h"][..], &["--since", "2h", "--dry-run"], &["--type", "caep:*"]] {
        let shown = cli(&daemon, &[&["replay", "globex", "--job", "j-1"], other].concat(), 7).await;
        assert!(shown.contains("job j-1 was begun for another choice"), "{shown}");
    }
    assert!(drain(&daemon, &partner).await.is_empty());
    // Another job says all of it once more, and what the first one said not twice.
    let done = document(&cli(&daemon, &["replay", "globex", "--since", "1h", "--json"], 0).await);
    assert_eq!((&done["reissued"], &done["resent"]), (&json!(6), &json!(0)), "{done}");
    let once_more = subjects(&drain(&daemon, &partner).await);
    assert_eq!((once_more.len(), once_more.values().max()), (6, Some(&1)), "{once_more:?}");
}

#[tokio::test]
async fn a_kill_in_the_middle_doubles_nothing_and_leaves_nothing_out() {
    let partner = Partner::new("globex");
    let mut daemon = Plan::new(false).with(PATIENT).with_peer(&partner, "").start().await;
    daemon.send_all("globex", &names("e", 900)).await;
    // Some settle out of turn: their rows are held by others that wait until later.
    let held = partner.exchange(&daemon, &json!({})).await["sets"].as_object().unwrap().clone();
    let late: BTreeSet<&String> = held.keys().step_by(97).collect();
    let ack: Vec<&String> = held.keys().filter(|jti| !late.contains(jti)).collect();
    let mut first = drain(&daemon, &partner).await;
    partner.exchange(&daemon, &json!({"ack": ack})).await;
    first.extend(held.iter().map(|(jti, set)| (jti.clone(), set.as_str().unwrap().to_owned())));
    assert_eq!(first.len(), 900);

    let one = replayed(&daemon, &json!({"since": "1h", "job": "j", "max": 150})).await;
    // The job knows what it is about.
    let body = |after: &Value, max: u64| json!({"job": "j", "max": max, "after": after});
    assert_eq!((&one["reissued"], one["next"].is_string()), (&json!(150), true), "{one}");
    let two = replayed(&daemon, &body(&one["next"], 150)).await;
    assert_eq!(two["reissued"], 150, "{two}");
    daemon.kill().await;
    daemon.restart().await;
    // The second answer was lost: it is asked for again.
    let (mut reissued, mut before, mut next) = (0, 0, one["next"].clone());
    loop {
        let part = replayed(&daemon, &body(&next, 1_000)).await;
        reissued += part["reissued"].as_u64().unwrap();
        before += part["before"].as_u64().unwrap();
        next = part["next"].clone();
        if next.is_null() {
            break;
        }
    }
    let acked = 900 - late.len() as u64;
    assert_eq!((reissued, before), (acked - 300, 150));
    let got: Got = drain(&daemon, &partner).await.into_iter().filter(|(jti, _)| !first.contains_key(jti)).collect();
    let got = subjects(&got);
    assert_eq!((got.len() as u64, got.values().max()), (acked, Some(&1)), "each once");
    // Those that were late have been acked meanwhile, and are none of this job.
    let again = ["replay", "globex", "--job", "j", "--json"];
    let all = document(&cli(&daemon, &again, 0).await);
    assert_eq!((&all["reissued"], &all["before"]), (&json!(0), &json!(acked)), "{all}");
}

#[tokio::test]
async fn it_waits_while_the_queue_is_full() {
    let partner = Partner::new("globex");
    let few = "[delivery]\nretry_first = \"2m\"\noutbox_max = 100\n";
    let daemon = Plan::new(false).with(few).with_peer(&partner, "").start().await;
    let mut first = Got::new();
    for part in ["a", "b", "c"] {
        for fifth in 0..5 {
            daemon.send_all("globex", &names(&format!("{part}-{fifth}"), 50)).await;
            first.extend(drain(&daemon, &partner).await);
        }
    }
    let (shown, got) =
        tokio::join!(cli(&daemon, &["replay", "globex", "--since", "1h", "--rate", "2000", "--json"], 0), async {
            // It has to stop by itself first.
            crate::common::until("the queue is full", async || {
                (daemon.totals("globex").await["queued"].as_u64() > Some(50)).then_some(())
            })
            .await;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            daemon.send("globex", "new").await;
            let mut got = drain(&daemon, &partner).await;
            while got.len() < 751 {
                got.extend(drain(&daemon, &partner).await);
            }
            got.remove("new").expect("there is room for a new one");
            got
        });
    let done = document(&shown);
    assert_eq!((&done["reissued"], &done["before"], &done["failed"]), (&json!(750), &json!(0), &json!([])), "{done}");
    let got = subjects(&got);
    assert_eq!((got.len(), got.values().max()), (750, Some(&1)));
    assert_eq!(got.keys().collect::<Vec<_>>(), subjects(&first).keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_meant_is_chosen_by_time_and_type_and_what_cannot_be_is_told() {
    let partner = Partner::new("globex");
    let daemon = Plan::new(false).with(PATIENT).with_peer(&partner, "").start().await;
    let relayed = json!({"peer": "globex", "set": partner.set("theirs")});
    assert_eq!(daemon.admin("POST", "/api/v1/events", Some(&relayed)).await.status(), 202);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let record = daemon.record("out", "globex", "theirs").await.unwrap();
    let accepted = record["timeline"][0]["at"].as_str().unwrap();
    // A little later, as times are told to the millisecond.
    let until = format!("{}{:03}Z", &accepted[..20], accepted[20..23].parse::<u32>().unwrap().min(989) + 10);
    daemon.send("globex", "ours").await;
    let other = json!({"peer": "globex", "type": "risc:account-disabled", "sub_id": {"format": "opaque", "id": "x"}, "jti": "risc"});
    assert_eq!(daemon.admin("POST", "/api/v1/events", Some(&other)).await.status(), 202);
    drain(&daemon, &partner).await;
    let count = async |arguments: &[&str], code| {
        let arguments = [&["replay", "globex", "--dry-run", "--json"], arguments].concat();
        document(&cli(&daemon, &arguments, code).await)
    };
    let all = count(&["--since", "1h"], 10).await;
    assert_eq!((&all["reissued"], &all["failed"][0]["code"]), (&json!(2), &json!("foreign_issuer")), "{all}");
    assert_eq!(count(&["--since", "1h", "--type", "risc:*"], 0).await["reissued"], 1);
    assert_eq!(count(&["--since", "1h", "--type", "ssf:*"], 0).await["reissued"], 0);
    assert_eq!(count(&["--since", "2h", "--until", "1h"], 0).await["reissued"], 0);
    let shown = cli(&daemon, &["replay", "globex", "--since", "1h", "--type", "caep:*"], 10).await;
    // And so where nothing else is meant.
    for more in [&["--dry-run"][..], &[]] {
        let theirs = [&["replay", "globex", "--since", "1h", "--until", &until, "--json"], more].concat();
        let shown = cli(&daemon, &theirs, 7).await;
        assert_eq!(document(&shown)["failed"][0]["jti"], "theirs", "{shown}");
    }
    assert!(
        shown.contains("globex: 1 reissued, 0 resent") && shown.contains("1  cannot be said again (foreign_issuer)"),
        "{shown}"
    );

    for (arguments, code, expected) in [
        (vec!["nobody", "--since", "1h"], 6, "error[no_such_peer]"),
        (vec!["globex", "--since", "yesterday"], 1, "since: expected a time in UTC"),
        (vec!["globex", "--since", "2099-01-01"], 1, "since: expected a time before"),
        (vec!["globex", "--job", "unheard-of"], 1, "no job \"unheard-of\" was begun"),
        (vec!["globex", "--since", "1h", "--type", "caep:session-revokd"], 1, "type: "),
        (vec!["globex", "--since", "1h", "--job", "a b"], 1, "job: expected"),
        (vec!["globex"], 2, "--since"),
    ] {
        let shown = cli(&daemon, &[&["replay"], arguments.as_slice()].concat(), code).await;
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    for (body, expected) in [
        (json!({"since": "1h"}), "job: missing"),
        (json!({"dry_run": true}), "since: missing"),
        (json!({"since": "1h", "job": "j", "after": "x"}), "after: "),
        (json!({"since": "1h", "job": "j", "max": 0}), "max: "),
        (json!({"since": "1h", "job": "j", "until": "soon"}), "until: "),
        (json!({"since": "1h", "job": "j", "rate": 5}), "\"rate\": unknown member"),
    ] {
        let answer = replay(&daemon, &body).await;
        assert!(
            answer.status() == 400 && answer.json()["detail"].as_str().unwrap().contains(expected),
            "{body}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn where_nothing_is_kept_that_is_said() {
    let partner = Partner::new("globex");
    let plan = Plan::new(false).with("[store]\nkeep_settled = \"0s\"\n").with(PATIENT);
    let daemon = plan.with_peer(&partner, "").start().await;
    daemon.send("globex", "gone").await;
    drain(&daemon, &partner).await;
    let shown = cli(&daemon, &["replay", "globex", "--since", "1h", "--dry-run"], 0).await;
    assert!(shown.contains("0  acked or refused") && shown.contains("store.keep_settled"), "{shown}");
}
