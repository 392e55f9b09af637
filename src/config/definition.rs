//! A peer as the admin API takes it: the keys of a `[[peer]]` block as a JSON object.

use serde_json::{Map, Value};

use super::complaint;
use super::peer::Peer;
use super::problem::Problem;

impl Peer {
    /// Reads the definition of a peer of this name, whatever name stands in it.
    ///
    /// # Errors
    ///
    /// What is wrong with each key. Nothing of a value is repeated that may be a secret.
    pub fn of_definition(name: &str, definition: Value) -> Result<Self, Vec<Problem>> {
        let Value::Object(mut keys) = definition else {
            return Err(vec![Problem::at("definition", "no object").expected("the keys of a [[peer]] block").finish()]);
        };
        keys.insert("name".to_owned(), name.into());
        // Each key by itself, since the reader stops at the first fault and does not say where it is.
        let alone = |(key, value): (&String, &Value)| {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            let error = serde_json::from_value::<Self>(alone.into()).err()?.to_string();
            let base = at(key, "");
            let unknown = error.starts_with("unknown field");
            let problem =
                if unknown { complaint::of_key(&error, key, base) } else { complaint::of_value(&error, key, base) };
            Some(problem.finish())
        };
        let problems: Vec<Problem> = keys.iter().filter_map(alone).collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        serde_json::from_value(keys.into()).map_err(|_| vec![at("definition", "it does not hold together").finish()])
    }
}

fn at(key: &str, what: &str) -> Problem {
    Problem { field: key.to_owned(), ..Problem::at(key, what) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(definition: Value) -> Vec<String> {
        let faults = Peer::of_definition("globex", definition).expect_err("faults");
        faults.iter().map(Problem::brief).collect()
    }

    #[test]
    fn each_key_is_told_and_no_secret_repeated() {
        let told = faults(json!({"issuer": 5, "token": "s3cr3t", "isuer": "x", "transport": "webhook"}));
        let [issuer, mistyped, token, transport] = told.as_slice() else { panic!("{told:?}") };
        assert!(issuer.starts_with("issuer: ") && issuer.contains("a text in quotation marks"), "{issuer}");
        assert!(
            mistyped.starts_with("isuer: unknown key") && mistyped.ends_with("did you mean `issuer`?"),
            "{mistyped}"
        );
        assert!(token.starts_with("token: ") && token.contains("token_file"), "{token}");
        assert!(transport.contains("webhook") && transport.contains("push"), "{transport}");
        assert!(!told.concat().contains("s3cr3t"));
    }

    #[test]
    fn a_sound_definition_is_the_peer() {
        let peer = Peer::of_definition("globex", json!({"issuer": "https://globex.example", "name": "acme"}));
        let peer = peer.expect("sound");
        assert_eq!((peer.name.as_str(), peer.issuer.as_str()), ("globex", "https://globex.example"));
        assert!(Peer::of_definition("globex", json!([])).is_err());
    }
}
