//! `pushpull peer show`, `verify`, `pause`, `resume` and `rm`: one partner, as the daemon has it.

use serde_json::{Value, json};

use super::args::{Global, Rm};
use super::client::{Call, escape};
use super::site::Site;
use super::{Error, Exit, card, output, serve, site, status};
use crate::codes::Code;
use crate::config::{Peer, duration_text};
use crate::metrics::Metrics;
use crate::store::{self, Journal as _, Registry as _, Sqlite};

pub(super) async fn show(name: &str, global: &Global) -> Result<Exit, Error> {
    let answer = site::client(global)?.json(Call::get(&format!("/api/v1/peers/{}", escape(name)))).await?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    output::line(&detail(&answer, status::now()))?;
    if let Some(text) = status::ours(&answer) {
        output::line(&format!("\n{text}"))?;
    }
    Ok(Exit::Done)
}

/// All that is known of a partner, for people: the link, each direction, the keys, and what to do.
fn detail(peer: &Value, now: u64) -> String {
    let text = |place: &str| output::clean(peer.pointer(place).and_then(Value::as_str).unwrap_or("–"));
    let number = |place: &str| peer.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let time = |place: &str| match peer.pointer(place).and_then(Value::as_str) {
        Some(at) => format!("{} ({})", status::ago(at, now), output::clean(at)),
        None => "none since the daemon started".to_owned(),
    };
    let seconds = |place: &str| peer.pointer(place).and_then(Value::as_f64).map(status::age);
    let mut lines = vec![format!("{}  {} by {}", text("/name"), text("/link"), text("/transport"))];
    let mut line = |head: &str, text: String| lines.push(format!("  {head:<10}{text}"));
    if peer.pointer("/since").is_some_and(Value::is_string) {
        line("since", time("/since"));
    }
    if let Some(why) = peer.get("trouble").and_then(Value::as_str) {
        line("why", output::clean(why));
    }
    if let Some(why) = peer.get("no_websocket").and_then(Value::as_str) {
        line("no ws", output::clean(why));
    }
    let oldest = seconds("/oldest_seconds").map(|age| format!(", the oldest for {age}")).unwrap_or_default();
    line("out", format!("{} queued{oldest}; {} of them in flight", number("/queued"), number("/in_flight")));
    line("", format!("{} acked, {} refused, {} given up", number("/acked"), number("/refused"), number("/dead")));
    line("", format!("last ack: {}", time("/out/last_ack_at")));
    if let Some(at) = peer.pointer("/out/last_refusal/at").and_then(Value::as_str) {
        let (err, jti) = (text("/out/last_refusal/err"), text("/out/last_refusal/jti"));
        line("", format!("last refusal: {err}, {} (pushpull event show {jti})", status::ago(at, now)));
    }
    line("in", format!("{} received, {} refused by us", number("/received"), number("/rejected")));
    line("", format!("last SET: {}", time("/in/last_received_at")));
    line("", format!("{} verdicts owed; last verdict: {}", number("/owed"), time("/in/last_verdict_at")));
    let keys = match seconds("/keys/age_seconds") {
        Some(age) => format!("{} held, {age} old", number("/keys/count")),
        None => "none yet: what it sends cannot be judged".to_owned(),
    };
    line("keys", keys);
    if let Some(why) = peer.pointer("/keys/trouble").and_then(Value::as_str) {
        line("", format!("cannot be fetched: {}", output::clean(why)));
    }
    if peer.get("advice").is_some_and(Value::is_object) {
        line("code", text("/advice/code"));
        // Mostly it is what stands above already.
        let cause = peer.pointer("/advice/why");
        if [peer.get("trouble"), peer.get("no_websocket"), peer.pointer("/keys/trouble")]
            .iter()
            .all(|why| *why != cause)
        {
            line("cause", text("/advice/why"));
        }
        line("who acts", text("/advice/who_acts"));
        line("fix", text("/advice/fix"));
    }
    lines.join("\n")
}

pub(super) async fn verify(name: &str, global: &Global) -> Result<Exit, Error> {
    let path = format!("/api/v1/peers/{}/verify", escape(name));
    let answer = site::client(global)?.json(Call::post(&path, "application/json", "")).await?;
    if global.json {
        output::json(&answer)?;
    } else {
        let jti = answer["jti"].as_str().unwrap_or_default();
        let ms = answer["ms"].as_f64().unwrap_or_default();
        output::line(&format!("{name} acked the verification event {} after {ms} ms", output::clean(jti)))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn pause(name: &str, paused: bool, global: &Global) -> Result<Exit, Error> {
    let path = format!("/api/v1/peers/{}/{}", escape(name), if paused { "pause" } else { "resume" });
    let answer = site::client(global)?.json(Call::post(&path, "application/json", "")).await?;
    if global.json {
        output::json(&answer)?;
    } else if paused {
        output::line(&format!("{name} is paused: nothing is sent to it, what it sends is answered"))?;
        output::note(&format!("undo       pushpull peer resume {name}"));
    } else {
        output::line(&format!("{name} is sent to"))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn rm(rm: &Rm, global: &Global) -> Result<Exit, Error> {
    let name = &rm.name;
    let drain = rm.drain.map(|drain| format!("&drain={}", escape(&duration_text(drain)))).unwrap_or_default();
    let path = format!("/api/v1/peers/{}?keep_queue={}{drain}", escape(name), rm.keep_queue);
    // Its links have some seconds to close.
    let wait = rm.drain.unwrap_or_default() + std::time::Duration::from_secs(20);
    let asked = site::client(global)?.json(Call::delete(&path).waiting(wait)).await;
    let answer = match asked {
        // A peer whose files are gone may be what keeps the daemon from starting.
        Err(error) if error.exit == Exit::Unreachable => without_daemon(rm, global, error).await?,
        asked => asked?,
    };
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let count = |member: &str| answer.get(member).and_then(Value::as_u64).unwrap_or_default();
    let (queued, dead) = (count("queued"), count("dead_letters"));
    output::line(&format!("removed    {name}: its token means nothing any more, its links are closed"))?;
    output::line(&format!(
        "left       {queued} SETs queued under its name, {dead} dead letters; received SETs stay in the inbox"
    ))?;
    if let Ok(peer) = serde_json::from_value::<Peer>(answer["definition"].clone()) {
        let block = card::block(&Peer { name: name.clone(), ..peer });
        output::note(&format!(
            "undo       put this block into the configuration, then `pushpull reload`; its queue goes on:\n\n{block}"
        ));
    }
    Ok(Exit::Done)
}

/// Removes a peer from the store of a daemon that does not run. `away` is what there is to say if there is no such peer in
/// it, or the store is in use: then a daemon runs, and somewhere else than was asked.
async fn without_daemon(rm: &Rm, global: &Global, away: Error) -> Result<Value, Error> {
    if global.admin.is_some() {
        return Err(away);
    }
    let config = Site::of(global).load()?;
    let is_there = config.store.path().is_some_and(|path| path.exists());
    let Ok(store) = (if is_there { serve::open_store(&config, &Metrics::new()).await } else { Err(away) }) else {
        return Err(Error::new(Exit::Unreachable, "no daemon answers, and its store cannot be opened")
            .fix("start `pushpull serve`, or see who uses its database"));
    };
    let removed = removed(&store, &rm.name, rm.keep_queue).await;
    serve::close(store).await;
    removed
}

async fn removed(store: &Sqlite, name: &str, keep_queue: bool) -> Result<Value, Error> {
    let failed = |error: store::Error| Error::new(Exit::StorageFailed, error.to_string());
    let kept = store.added_peers().await.map_err(failed)?;
    let Some((_, definition)) = kept.into_iter().find(|(other, _)| other == name) else {
        return Err(Error::new(Exit::NotFound, format!("no daemon runs, and no peer {name:?} was added at run time"))
            .code(Code::NoSuchPeer)
            .fix("a peer of the configuration file is removed by taking its block out"));
    };
    let id = store.peer_id(name.to_owned()).await.map_err(failed)?;
    let counts = store.recover(id).await.map_err(failed)?.counts;
    if counts.queued > 0 && !keep_queue {
        return Err(Error::new(
            Exit::Conflict,
            format!("{} SETs wait for {name}, which was not removed", counts.queued),
        )
        .code(Code::PeerHasQueue)
        .fix("start the daemon and let them leave (--drain), or keep them for a peer of that name: --keep-queue"));
    }
    store.remove_peer(name.to_owned()).await.map_err(failed)?;
    let definition: Value = serde_json::from_str(&definition).unwrap_or(Value::Null);
    Ok(json!({ "name": name, "queued": counts.queued, "dead_letters": counts.dead_letters, "definition": definition }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_down_says_since_when_why_and_what_to_do() {
        let peer = serde_json::json!({
            "name": "globex", "link": "down", "transport": "websocket", "since": "1970-01-01T00:00:00.000Z",
            "trouble": "nobody listens there", "queued": 3, "in_flight": 0, "oldest_seconds": 300, "owed": 1,
            "acked": 5, "refused": 1, "dead": 0, "received": 7, "rejected": 0,
            "out": {"last_ack_at": null, "last_refusal": {"at": "1970-01-01T00:05:00.000Z", "jti": "j\u{1b}", "err": "invalid_key"}},
            "in": {"last_received_at": null, "last_verdict_at": null},
            "keys": {"count": 1, "age_seconds": 20, "trouble": null},
            "advice": {"code": "link_down", "why": "nobody listens there", "who_acts": "you and the partner", "fix": "call them"},
        });
        let text = detail(&peer, 600_000);
        for part in [
            "globex  down by websocket\n",
            "since     10 min ago (1970-01-01T00:00:00.000Z)\n",
            "why       nobody listens there\n",
            "3 queued, the oldest for 5 min; 0 of them in flight\n",
            "last refusal: invalid_key, 5 min ago (pushpull event show j\\u{1b})\n",
            "last ack: none since the daemon started\n",
            "keys      1 held, 20 s old\n",
            "who acts  you and the partner\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
