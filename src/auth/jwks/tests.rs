//! The key cache against a scripted HTTP server and a clock that stands still until told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::clock::Timestamp;
use crate::wire::net::{Allow, Dialer, Target};

#[derive(Default)]
struct Clockwork(Mutex<Timestamp>);

impl Clock for Clockwork {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Keys are the words of a text that begins with `keys:`.
fn parse(bytes: &[u8]) -> Result<Parsed<Vec<String>>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let words = text.strip_prefix("keys:").ok_or("expected keys:")?;
    let keys: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    Ok(Parsed { count: keys.len(), keys, skipped: Vec::new() })
}

struct Fixture {
    keys: Arc<PartnerKeys<Vec<String>>>,
    clock: Arc<Clockwork>,
    requests: Arc<AtomicUsize>,
    /// A permit lets one answer out.
    answers: Arc<Semaphore>,
}

/// A server that gives these answers, one a connection; an answer is a status line's rest and a body.
async fn fixture(script: &[(&str, &str)]) -> Fixture {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::parse(&format!("http://{}/jwks.json", listener.local_addr().unwrap())).unwrap();
    let client = Client::new(Arc::new(Dialer::new(Allow::parse(["127.0.0.1"]).unwrap())), target, None);
    let clock = Arc::new(Clockwork::default());
    let mut keys = PartnerKeys::new("globex", Source::Url(client), parse, Duration::from_secs(600), clock.clone());
    keys.retry_first = Duration::from_millis(1);
    let (requests, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(1_000)));
    let fixture = Fixture { keys: Arc::new(keys), clock, requests: requests.clone(), answers: answers.clone() };
    let mut script: VecDeque<String> = script
        .iter()
        .map(|(status, body)| {
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        })
        .collect();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.read(&mut [0; 4096]).await.unwrap();
            requests.fetch_add(1, Ordering::SeqCst);
            answers.acquire().await.unwrap().forget();
            let answer = script.pop_front().unwrap_or_else(|| "HTTP/1.1 500 Over\r\ncontent-length: 0\r\n\r\n".into());
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    });
    fixture
}

impl Fixture {
    fn advance(&self, seconds: u64) -> Duration {
        let mut now = self.clock.0.lock().unwrap();
        now.mono += Duration::from_secs(seconds);
        now.mono
    }

    async fn newer_than(&self, arrival: Duration) -> Option<Vec<String>> {
        let tried = self.keys.current().map(|snapshot| snapshot.started_at);
        self.after(tried, arrival).await.map(|snapshot| snapshot.keys.to_vec())
    }

    async fn after(&self, tried: Option<Duration>, arrival: Duration) -> Option<Snapshot<Vec<String>>> {
        self.keys.after(tried, arrival, Instant::now() + Duration::from_secs(5)).await
    }

    fn current(&self) -> Option<Vec<String>> {
        self.keys.current().map(|snapshot| snapshot.keys.to_vec())
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        while !reached(self) {
            tokio::task::yield_now().await;
        }
    }
}

fn words(text: &str) -> Option<Vec<String>> {
    Some(text.split_whitespace().map(str::to_owned).collect())
}

const OK: &str = "200 OK";

#[tokio::test]
async fn keys_are_fetched_only_when_those_held_are_older_than_the_arrival() {
    let fixture = fixture(&[(OK, "keys: a b"), (OK, "keys: c")]).await;
    assert_eq!(fixture.current(), None);
    let first = fixture.advance(10);
    assert_eq!(fixture.newer_than(first).await, words("a b"));
    fixture.advance(10);
    assert_eq!(fixture.newer_than(first).await, words("a b"));
    assert_eq!(fixture.requests(), 1);
    let second = fixture.advance(10);
    assert_eq!(fixture.newer_than(second).await, words("c"), "withdrawn keys are gone");
    assert_eq!(fixture.current(), words("c"));
}

#[tokio::test]
async fn whoever_waits_at_the_same_time_shares_one_fetch() {
    let fixture = fixture(&[(OK, "keys: a")]).await;
    let arrival = fixture.advance(1);
    let all = futures_util::future::join_all((0..20).map(|_| fixture.newer_than(arrival))).await;
    assert!(all.iter().all(|keys| *keys == words("a")));
    assert_eq!(fixture.requests(), 1);
}

#[tokio::test]
async fn a_fetch_that_started_before_the_arrival_is_worth_a_try_but_not_enough() {
    let fixture = fixture(&[(OK, "keys: old"), (OK, "keys: new")]).await;
    fixture.answers.forget_permits(1_000);
    let early = fixture.advance(1);
    let late = async {
        fixture.until(|fixture| fixture.requests() == 1).await;
        // The first fetch is under way; a SET arrives now, signed with a key published after the server read its file.
        let arrival = fixture.advance(1);
        fixture.answers.add_permits(2);
        let first = fixture.after(None, arrival).await.unwrap();
        assert_eq!(fixture.requests(), 1, "whoever finds its key there asks for no further fetch");
        assert!(first.started_at < arrival);
        let second = fixture.after(Some(first.started_at), arrival).await.unwrap();
        assert!(second.started_at >= arrival);
        (Some(first.keys.to_vec()), Some(second.keys.to_vec()))
    };
    let (early, late) = tokio::join!(fixture.newer_than(early), late);
    assert_eq!((early, late), (words("old"), (words("old"), words("new"))));
    assert_eq!(fixture.requests(), 2);
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_end_the_fetch() {
    let fixture = fixture(&[(OK, "keys: a")]).await;
    fixture.answers.forget_permits(1_000);
    let arrival = fixture.advance(1);
    assert!(fixture.keys.after(None, arrival, Instant::now() + Duration::from_millis(20)).await.is_none());
    fixture.answers.add_permits(1);
    assert_eq!(fixture.newer_than(arrival).await, words("a"));
    assert_eq!(fixture.requests(), 1);
}

#[tokio::test]
async fn at_most_two_fetches_a_minute_are_made_on_demand() {
    let fixture = fixture(&[(OK, "keys: a"), (OK, "keys: b"), (OK, "keys: c")]).await;
    for expected in ["a", "b"] {
        let arrival = fixture.advance(1);
        assert_eq!(fixture.newer_than(arrival).await, words(expected));
    }
    let arrival = fixture.advance(1);
    assert_eq!(fixture.newer_than(arrival).await, None);
    assert_eq!(fixture.current(), words("b"), "the keys held stay");
    assert_eq!(fixture.requests(), 2);
    let arrival = fixture.advance(60);
    assert_eq!(fixture.newer_than(arrival).await, words("c"));
}

#[tokio::test]
async fn a_failing_source_leaves_the_keys_alone_and_gives_no_verdict() {
    let huge = format!("keys: {}", "x".repeat(FETCH.body_bytes_max));
    let failures = [
        ("500 Internal Server Error", "keys: x"),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", "keys: x"),
        ("404 Not Found", "keys: x"),
        (OK, "<html>"),
        (OK, ""),
        (OK, huge.as_str()),
    ];
    for failure in failures {
        let fixture = fixture(&[(OK, "keys: a"), failure]).await;
        let arrival = fixture.advance(1);
        assert_eq!(fixture.newer_than(arrival).await, words("a"));
        let arrival = fixture.advance(1);
        assert_eq!(fixture.newer_than(arrival).await, None);
        assert_eq!(fixture.current(), words("a"));
        let trouble = fixture.keys.trouble().unwrap();
        assert!(trouble.contains("/jwks.json: ") && !trouble.contains('\n'), "{trouble}");
        assert_eq!(fixture.newer_than(arrival).await, None, "the failure is not asked for again");
        assert_eq!(fixture.requests(), 2);
    }
}

#[tokio::test]
async fn a_fetch_that_failed_for_one_copy_is_made_again_for_the_next() {
    let fixture = fixture(&[(OK, "keys: a"), ("503 Busy", ""), (OK, "keys: a b")]).await;
    let first = fixture.advance(1);
    assert_eq!(fixture.newer_than(first).await, words("a"));
    let since = fixture.advance(100);
    assert_eq!(fixture.newer_than(since).await, None);
    let arrival = fixture.advance(100);
    let tried = fixture.keys.current().map(|snapshot| snapshot.started_at);
    let snapshot = fixture.keys.after(tried, arrival, Instant::now() + Duration::from_secs(5)).await;
    assert_eq!(snapshot.map(|snapshot| snapshot.keys.to_vec()), words("a b"));
}

#[tokio::test]
async fn in_the_background_the_first_success_is_tried_for_again_and_again() {
    let fixture = fixture(&[("503 Busy", ""), ("503 Busy", ""), (OK, "keys: a")]).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(fixture.keys.clone().run(async {
        let _ = stopped.await;
    }));
    fixture.until(|fixture| fixture.current().is_some()).await;
    assert_eq!(fixture.requests(), 3);
    assert_eq!(fixture.keys.trouble(), None, "it recovered");
    stop.send(()).unwrap();
    task.await.unwrap();
}

#[tokio::test]
async fn a_file_is_always_fresh_and_a_bad_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("globex.jwks.json");
    let clock = Arc::new(Clockwork::default());
    let missing = PartnerKeys::from_file("globex", &path, parse, clock.clone()).unwrap_err();
    assert!(missing.contains("globex.jwks.json"), "{missing}");
    std::fs::write(&path, "keys: a").unwrap();
    let keys = PartnerKeys::from_file("globex", &path, parse, clock.clone()).unwrap();
    clock.0.lock().unwrap().mono = Duration::from_secs(99);
    let arrival = Duration::from_secs(99);
    let snapshot = keys.after(None, arrival, Instant::now()).await.unwrap();
    assert_eq!((snapshot.keys.len(), snapshot.started_at), (1, Duration::from_secs(99)));
    std::fs::write(&path, "garbage").unwrap();
    assert!(keys.reread().unwrap_err().contains("the keys cannot be read"));
    assert_eq!(keys.current().unwrap().keys.len(), 1);
    std::fs::write(&path, "keys: a b").unwrap();
    let reread = keys.reread().unwrap().expect("keys of a file");
    keys.adopt(reread);
    assert_eq!(keys.current().unwrap().keys.len(), 2);
}

#[tokio::test]
async fn keys_from_a_source_of_our_own_follow_the_same_rules() {
    let clock = Arc::new(Clockwork::default());
    let asked = Arc::new(AtomicUsize::new(0));
    let fetch: Fetch = {
        let asked = Arc::clone(&asked);
        Box::new(move || {
            let count = asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match count {
                    0 => Ok(Bytes::from_static(b"keys: one")),
                    1 => Err("it is down".to_owned()),
                    _ => Ok(Bytes::from_static(b"nothing of the kind")),
                }
            })
        })
    };
    let keys = PartnerKeys::from_fetch("globex", fetch, parse, Duration::from_secs(600), 7, clock.clone());
    let fixture = Fixture { keys, clock, requests: asked, answers: Arc::new(Semaphore::new(1)) };
    assert!(fixture.keys.current().is_none(), "nothing is fetched before it is needed");
    assert_eq!(fixture.newer_than(Duration::ZERO).await, Some(vec!["one".to_owned()]));
    let arrival = fixture.advance(1);
    assert_eq!(fixture.newer_than(arrival).await, None);
    assert_eq!(fixture.keys.trouble(), Some("it is down".to_owned()));
    let arrival = fixture.advance(100);
    assert_eq!(fixture.newer_than(arrival).await, None);
    assert_eq!(fixture.keys.trouble().as_deref(), Some("our own source: the keys cannot be read: expected keys:"));
    assert_eq!(*fixture.keys.current().unwrap().keys, ["one"], "those held stay");
    assert_eq!(fixture.requests.load(Ordering::SeqCst), 3);
}
