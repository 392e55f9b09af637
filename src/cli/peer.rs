//! `pushpull peer show`, `verify`, `pause`, `resume` and `rm`: one partner, as the daemon has it.

use http::Method;
use serde_json::Value;

use super::args::{Global, Rm};
use super::client::{Call, escape};
use super::{Error, Exit, card, output, site};
use crate::config::{Peer, duration_text};

pub(super) async fn show(name: &str, global: &Global) -> Result<Exit, Error> {
    let answer = site::client(global)?.json(Call::get(&format!("/api/v1/peers/{}", escape(name)))).await?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let peer = answer.get("peers").and_then(|peers| peers.get(0)).unwrap_or(&answer);
    let members = peer.as_object().into_iter().flatten();
    let width = peer.as_object().into_iter().flatten().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in members {
        let value = match value {
            Value::String(text) => output::clean(text),
            Value::Null => "–".to_owned(),
            other => other.to_string(),
        };
        output::line(&format!("{key:<width$}  {value}"))?;
    }
    Ok(Exit::Done)
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
    let answer = site::client(global)?.json(Call { method: Method::DELETE, ..Call::get(&path) }.waiting(wait)).await?;
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
