//! `pushpull send PEER -f FILE`: JSON Lines in, one result a line out, in order. Every line has its jti before anything
//! is sent, so whatever was interrupted may be sent again.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::codes::Code;
use crate::set::{self, Jti};

use super::args::{Global, Send};
use super::client::{Call, Client, Response};
use super::{Error, Exit, output, site};

/// A batch that is not full leaves when no line came for so long, so that a slow producer is not held up.
const LINGER: Duration = Duration::from_millis(50);

/// Pauses between two attempts to reach the daemon, unless it names one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

pub(super) async fn run(send: &Send, file: &Path, global: &Global) -> Result<Exit, Error> {
    let input: Box<dyn AsyncBufRead + Unpin + std::marker::Send> = if file.as_os_str() == "-" {
        Box::new(BufReader::new(tokio::io::stdin()))
    } else {
        let opened = tokio::fs::File::open(file).await;
        Box::new(BufReader::new(opened.map_err(|error| Error::unreadable(file, &error))?))
    };
    let mut daemon = Submitter { client: site::client(global)?, retry_for: send.retry_for };
    let batch_max = send.batch as usize;
    let (to_batches, mut lines) = mpsc::channel(batch_max);
    let reader = tokio::spawn(read(input, send.peer.clone(), to_batches));
    let (mut accepted, mut failed) = (0u64, 0u64);
    let mut stopped = None;
    while stopped.is_none() {
        let Some(mut batch) = gather(&mut lines, batch_max).await else { break };
        stopped = daemon.submit(&mut batch).await;
        for line in batch {
            *(if line.error.is_none() { &mut accepted } else { &mut failed }) += 1;
            output::line(&line.result())?;
        }
    }
    if let Some(error) = stopped {
        if accepted == 0 {
            return Err(error);
        }
        output::note(&error.to_string());
        return Ok(Exit::PartlyDone);
    }
    drop(lines);
    if let Ok(Err(error)) = reader.await {
        return Err(Error::unreadable(file, &error));
    }
    Ok(match (accepted, failed) {
        (_, 0) => Exit::Done,
        (0, _) => Exit::Failed,
        _ => Exit::PartlyDone,
    })
}

/// One line of input.
struct Line {
    number: u64,
    jti: Option<String>,
    /// The request for this event; empty when there is none to be made.
    body: String,
    error: Option<(Code, String)>,
}

impl Line {
    fn read(number: u64, text: &str, peer: &str) -> Self {
        let mut line = Self { number, jti: None, body: String::new(), error: None };
        match line.prepare(text, peer) {
            Ok(body) => line.body = body,
            Err(error) => line.error = Some((Code::InvalidEvent, error)),
        }
        line
    }

    /// The request's body: the line with the peer, and with a jti where it lacks one. Everything else stays as written.
    fn prepare(&mut self, text: &str, peer: &str) -> Result<String, String> {
        type Object = BTreeMap<String, Box<RawValue>>;
        let not_json = |error: serde_json::Error| format!("not a JSON object: {}", category(&error));
        let raw = |value: &Value| serde_json::value::to_raw_value(value).map_err(not_json);
        let text_of = |value: Option<&Box<RawValue>>| serde_json::from_str::<String>(value?.get()).ok();
        let mut object: Object = serde_json::from_str(text).map_err(not_json)?;
        // Of which the reader above would take the last, and which nobody could tell it meant. Whatever else is not sound the daemon says.
        if let Err(error) = set::json::object(text.trim().as_bytes())
            && error.to_string().contains(set::json::TWICE)
        {
            return Err(set::json::TWICE.to_owned());
        }
        if text_of(object.get("peer")).is_some_and(|named| named != peer) {
            return Err(format!("the line names another peer than {peer}"));
        }
        object.insert("peer".to_owned(), raw(&peer.into())?);
        if let Some(compact) = text_of(object.get("set")) {
            let (_, claims) = set::decode(&compact).map_err(|refusal| refusal.description)?;
            self.jti = claims.get("jti").and_then(Value::as_str).map(str::to_owned);
        } else if let Some(claims) = object.get("claims") {
            let mut claims: Object =
                serde_json::from_str(claims.get()).map_err(|_| "claims is no JSON object".to_owned())?;
            if !claims.contains_key("jti") {
                claims.insert("jti".to_owned(), raw(&Jti::new().as_str().into())?);
            }
            self.jti = text_of(claims.get("jti"));
            object.insert("claims".to_owned(), serde_json::value::to_raw_value(&claims).map_err(not_json)?);
        } else {
            if !object.contains_key("jti") {
                object.insert("jti".to_owned(), raw(&Jti::new().as_str().into())?);
            }
            self.jti = text_of(object.get("jti"));
        }
        serde_json::to_string(&object).map_err(not_json)
    }

    /// The line of output.
    fn result(&self) -> String {
        let mut object = serde_json::json!({ "line": self.number, "jti": self.jti });
        if let Some((code, error)) = &self.error {
            object["error"] = error.as_str().into();
            object["code"] = code.as_str().into();
        }
        output::clean_json(object.to_string())
    }
}

/// What kind of fault it is. The parser's own words may quote the line.
fn category(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "another kind of value",
        serde_json::error::Category::Eof => "it breaks off",
        _ => "a syntax error",
    };
    format!("{what} at column {}", error.column())
}

async fn read(
    mut input: Box<dyn AsyncBufRead + Unpin + std::marker::Send>,
    peer: String,
    lines: mpsc::Sender<Line>,
) -> std::io::Result<()> {
    let (mut number, mut bytes) = (0, Vec::new());
    loop {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes).await? == 0 {
            return Ok(());
        }
        number += 1;
        let line = match std::str::from_utf8(&bytes) {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => Line::read(number, text.trim(), &peer),
            Err(_) => Line {
                number,
                jti: None,
                body: String::new(),
                error: Some((Code::InvalidEvent, "not UTF-8".to_owned())),
            },
        };
        if lines.send(line).await.is_err() {
            return Ok(());
        }
    }
}

/// The next batch: full, or what there is when no further line comes for a moment. `None` at the end.
async fn gather(lines: &mut mpsc::Receiver<Line>, batch_max: usize) -> Option<Vec<Line>> {
    let mut batch = vec![lines.recv().await?];
    while batch.len() < batch_max {
        match tokio::time::timeout(LINGER, lines.recv()).await {
            Ok(Some(line)) => batch.push(line),
            Ok(None) | Err(_) => break,
        }
    }
    Some(batch)
}

/// Brings batches to the daemon.
struct Submitter {
    client: Client,
    retry_for: Option<Duration>,
}

/// What one request came to.
enum Outcome {
    Accepted,
    /// One line, counted from zero within the request, is at fault; nothing was taken.
    Line(usize, Code, String),
    /// The request was too large.
    TooLarge,
    /// The daemon is away or overloaded, and may be back after a while.
    Later(Option<Duration>, Error),
    Refused(Error),
}

impl Submitter {
    /// Submits the lines in their order. A line at fault gets its error and the others go on without it. Returns what
    /// makes going on pointless; the lines not taken by then have it as their error.
    async fn submit(&mut self, batch: &mut [Line]) -> Option<Error> {
        let sound = batch.iter().enumerate().filter(|(_, line)| line.error.is_none()).map(|(index, _)| index).collect();
        let mut waiting: VecDeque<Vec<usize>> = VecDeque::from([sound]);
        while let Some(mut part) = waiting.pop_front() {
            if part.is_empty() {
                continue;
            }
            match self.deliver(batch, &part).await {
                Outcome::Accepted => {}
                Outcome::Line(index, code, error) if index < part.len() => {
                    batch[part.remove(index)].error = Some((code, error));
                    waiting.push_front(part);
                }
                Outcome::TooLarge if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    waiting.push_front(second);
                    waiting.push_front(part);
                }
                Outcome::TooLarge => {
                    batch[part[0]].error = Some((Code::TooLarge, "too large for the daemon".to_owned()));
                }
                Outcome::Line(_, code, what) => {
                    return Some(stop(batch, part, waiting, Error::failed(what).code(code)));
                }
                Outcome::Later(_, error) | Outcome::Refused(error) => return Some(stop(batch, part, waiting, error)),
            }
        }
        None
    }

    /// Makes a request, again and again while the daemon is away and there is time left.
    async fn deliver(&mut self, batch: &[Line], part: &[usize]) -> Outcome {
        let body = part.iter().map(|index| batch[*index].body.as_str()).collect::<Vec<_>>().join("\n");
        let call = Call::post("/api/v1/events", "application/x-ndjson", body);
        let until = self.retry_for.map(|patience| Instant::now() + patience);
        let mut pause = RETRY_FIRST;
        loop {
            let outcome = match self.client.call(&call).await {
                Ok(answer) => outcome(answer),
                Err(no_answer) => Outcome::Later(None, no_answer.into()),
            };
            let Outcome::Later(asked, _) = &outcome else { return outcome };
            let wait = asked.unwrap_or(pause);
            match until {
                Some(until) if Instant::now() + wait < until => tokio::time::sleep(wait).await,
                _ => return outcome,
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

fn outcome(answer: Response) -> Outcome {
    match answer.status {
        status if status.is_success() => Outcome::Accepted,
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::TooLarge,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            Outcome::Later(answer.retry_after(), answer.into_error())
        }
        status if status.is_client_error() => {
            let line = answer.problem().get("line").and_then(Value::as_u64).and_then(|line| usize::try_from(line).ok());
            match line.and_then(|line| line.checked_sub(1)) {
                Some(index) => {
                    let code = answer.problem().get("code").and_then(Value::as_str).and_then(Code::find);
                    Outcome::Line(index, code.unwrap_or(Code::InvalidEvent), answer.detail())
                }
                None => Outcome::Refused(answer.into_error()),
            }
        }
        _ => Outcome::Refused(answer.into_error()),
    }
}

/// Marks every line that was not taken, and hands the error on.
fn stop(batch: &mut [Line], part: Vec<usize>, waiting: VecDeque<Vec<usize>>, error: Error) -> Error {
    let what = match error.exit {
        Exit::Unreachable => "not taken: the daemon is unreachable".to_owned(),
        _ => format!("not taken: {}", error.summary()),
    };
    for index in part.into_iter().chain(waiting.into_iter().flatten()) {
        batch[index].error = Some((error.code, what.clone()));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &Line) -> Value {
        serde_json::from_str(&line.body).expect("a body")
    }

    #[test]
    fn a_line_gets_its_peer_and_a_jti_and_keeps_the_rest_as_written() {
        let line = Line::read(
            1,
            r#"{"type":"caep:x","sub_id":{"format":"opaque","id":"1"},"event":{"n":1e400,"m":12345678901234567890123}}"#,
            "globex",
        );
        let jti = line.jti.clone().expect("a jti was assigned");
        assert!(
            line.body.contains("1e400") && line.body.contains("12345678901234567890123"),
            "numbers are not rewritten"
        );
        assert!(line.body.contains(&format!("\"jti\":\"{jti}\"")) && line.body.contains("\"peer\":\"globex\""));
        let kept = Line::read(2, r#"{"type":"caep:x","jti":"j1"}"#, "globex");
        assert_eq!(kept.jti.as_deref(), Some("j1"));
        let claims = Line::read(3, r#"{"claims":{"events":{}}}"#, "globex");
        assert_eq!(value(&claims)["claims"]["jti"].as_str(), claims.jti.as_deref());
        assert!(claims.jti.is_some() && value(&claims).get("jti").is_none());
        let given = Line::read(4, r#"{"claims":{"jti":"j2"}}"#, "globex");
        assert_eq!(given.jti.as_deref(), Some("j2"));
    }

    #[test]
    fn lines_that_are_no_events_get_an_error_that_does_not_quote_them() {
        for text in [
            "{\"s3cret",
            "[1]",
            "s3cret",
            r#"{"type":"s3cret","type":"y"}"#,
            r#"{"peer":"other","type":"x"}"#,
            r#"{"claims":5}"#,
            r#"{"set":"s3cret"}"#,
        ] {
            let line = Line::read(7, text, "globex");
            let error = line.error.as_ref().map(|(_, error)| error.as_str()).expect(text);
            assert!(!error.contains("s3cret"), "{error}");
            let result: Value = serde_json::from_str(&line.result()).expect("JSON");
            assert_eq!(result["line"], 7);
            assert!(result["error"].is_string() && result.as_object().is_some_and(|object| object.contains_key("jti")));
        }
    }

    #[tokio::test]
    async fn a_batch_leaves_when_it_is_full_or_no_line_comes() {
        let input: Box<dyn AsyncBufRead + Unpin + std::marker::Send> = Box::new(&b"{}\n\n{}\n{}\n"[..]);
        let (sender, mut lines) = mpsc::channel(8);
        read(input, "globex".to_owned(), sender).await.expect("it reads");
        let first = gather(&mut lines, 2).await.expect("a batch");
        assert_eq!(first.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(gather(&mut lines, 2).await.map(|batch| batch.len()), Some(1));
        assert!(gather(&mut lines, 2).await.is_none());
    }
}
