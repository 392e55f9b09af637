//! `pushpull explain`: what a code means, who has to act and what to do. Works without a daemon or a configuration.

use serde_json::json;

use crate::codes::{self, Code, Entry};
use crate::set::nearest::nearest;

use super::{Error, Exit, output};

pub(super) fn run(name: Option<&str>, as_json: bool) -> Result<Exit, Error> {
    let Some(name) = name else { return list(as_json) };
    let code = Code::find(name);
    let answer = codes::ANSWERS.iter().find(|answer| answer.err == name);
    if code.is_none() && answer.is_none() {
        return Err(unknown(name));
    }
    if as_json {
        let told =
            |entry: &Entry| json!({ "meaning": entry.meaning, "who_acts": entry.who.as_str(), "fix": entry.remedy });
        let mut explained = json!({ "code": name });
        if let Some(code) = code {
            explained["here"] = told(code.entry());
        }
        if let Some(answer) = answer {
            explained["in_set_errs"] =
                json!({ "meaning": answer.meaning, "who_acts": answer.who.as_str(), "fix": answer.remedy });
        }
        output::json(&explained)?;
        return Ok(Exit::Done);
    }
    if let Some(code) = code {
        let entry = code.entry();
        output::line(&paragraph(name, entry.meaning, entry.who, entry.remedy))?;
    }
    if let Some(answer) = answer {
        let title = format!("{name}, as a partner's answer to one of our SETs");
        output::line(&paragraph(&title, answer.meaning, answer.who, answer.remedy))?;
    }
    Ok(Exit::Done)
}

fn paragraph(title: &str, meaning: &str, who: codes::Who, remedy: &str) -> String {
    format!("{title}\n   meaning   {meaning}\n   who acts  {who}\n   fix       {remedy}")
}

fn list(as_json: bool) -> Result<Exit, Error> {
    if as_json {
        for code in Code::ALL {
            let entry = code.entry();
            let (meaning, who, fix) = (entry.meaning, entry.who.as_str(), entry.remedy);
            output::json(&json!({ "code": code.as_str(), "meaning": meaning, "who_acts": who, "fix": fix }))?;
        }
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> =
        Code::ALL.iter().map(|code| vec![code.to_string(), code.entry().meaning.to_owned()]).collect();
    output::line(&output::table(&["CODE", "MEANING"], &rows))?;
    Ok(Exit::Done)
}

fn unknown(name: &str) -> Error {
    let names = Code::ALL.iter().map(|code| code.as_str()).chain(codes::ANSWERS.iter().map(|answer| answer.err));
    let error = Error::new(Exit::NotFound, format!("there is no code {name:?}"));
    match nearest(name, names) {
        Some(near) => error.fix(format!("did you mean {near}? `pushpull explain` lists them all")),
        None => error.fix("`pushpull explain` lists them all"),
    }
}
