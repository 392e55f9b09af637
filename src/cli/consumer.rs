//! `pushpull consumer`: those who read the inbox by a name.

use serde_json::Value;

use super::args::{Consumer, Global};
use super::client::{Call, escape};
use super::{Error, Exit, output, site};

pub(super) async fn run(command: &Consumer, global: &Global) -> Result<Exit, Error> {
    match command {
        Consumer::Ls => list(global).await,
        Consumer::Rm { name } => forget(name, global).await,
    }
}

async fn list(global: &Global) -> Result<Exit, Error> {
    let answer = site::client(global)?.json(Call::get("/api/v1/consumers")).await?;
    if global.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let consumers = answer["consumers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if consumers.is_empty() {
        output::note("no consumer has read the inbox yet: pushpull tail --consumer NAME --confirm");
        return Ok(Exit::Done);
    }
    let count = |consumer: &Value, member: &str| consumer[member].as_u64().unwrap_or_default().to_string();
    let row = |consumer: &Value| {
        let name = output::clean(consumer["name"].as_str().unwrap_or_default());
        vec![name, count(consumer, "confirmed"), count(consumer, "behind")]
    };
    let rows: Vec<Vec<String>> = consumers.iter().map(row).collect();
    output::line(&output::table(&["CONSUMER", "CONFIRMED", "BEHIND"], &rows))?;
    Ok(Exit::Done)
}

async fn forget(name: &str, global: &Global) -> Result<Exit, Error> {
    let path = format!("/api/v1/consumers/{}", escape(name));
    let answer = site::client(global)?.json(Call::delete(&path)).await?;
    if global.json {
        output::json(&answer)?;
    } else {
        output::line(&format!("forgotten: {}", output::clean(name)))?;
    }
    Ok(Exit::Done)
}
