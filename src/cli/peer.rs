//! `pushpull peer show` and `peer verify`: one partner, as the daemon sees it.

use serde_json::Value;

use super::args::Global;
use super::client::{Call, escape};
use super::{Error, Exit, output, site};

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
