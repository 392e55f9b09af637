//! What a reread configuration changes, in words, and what of it only a restart can bring about. Never a secret: of
//! tokens and keys it is told that they changed, and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Config, Delivery, Peer};
use crate::set::Digest;

/// A configuration, and what stood in the files that it names.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The configuration.
    pub config: Config,
    /// Digests of the files.
    pub contents: Contents,
}

/// Digests of contents, by what they belong to (`peer globex`, `server.tls`) and what they are (`token`).
pub type Contents = BTreeMap<(String, &'static str), Digest>;

/// What the content of `admin.token_file` belongs to. Like all of `[admin]`, it is read at the start alone.
pub const ADMIN: &str = "admin";

impl Seen {
    /// This one as far as a process can take it over that runs with `running`: the rest stays as it is there.
    pub fn adopted_by(&self, running: &Self) -> Self {
        let (mut seen, before) = (self.clone(), &running.config);
        let config = &mut seen.config;
        let listen = before.server.listen;
        config.server.issuer.clone_from(&before.server.issuer);
        config.server.audience.clone_from(&before.server.audience);
        config.server.listen = listen;
        if config.server.tls.mode != before.server.tls.mode {
            config.server.tls.clone_from(&before.server.tls);
        }
        config.server.tls.client_ca.clone_from(&before.server.tls.client_ca);
        config.admin.clone_from(&before.admin);
        config.store.clone_from(&before.store);
        config.keys.dir.clone_from(&before.keys.dir);
        config.limits.inbox_max = before.limits.inbox_max;
        config.delivery = Delivery {
            speak_interval: config.delivery.speak_interval,
            ping_interval: config.delivery.ping_interval,
            ..before.delivery.clone()
        };
        config.log.format = before.log.format;
        seen.contents.retain(|(whose, _), _| whose != ADMIN);
        let kept = running.contents.iter().filter(|((whose, _), _)| whose == ADMIN);
        seen.contents.extend(kept.map(|(what, digest)| (what.clone(), *digest)));
        seen
    }
}

/// What has changed, one text each: keys in the order of their names, then peers.
pub fn changes(before: &Seen, after: &Seen) -> Vec<String> {
    let mut lines: Vec<String> = differences(&before.config, &after.config)
        .into_iter()
        .map(|(key, old, new)| format!("{key}: {} → {}", shown(&old), shown(&new)))
        .collect();
    let other = changed_contents(before, after);
    lines.extend(
        other
            .iter()
            .filter(|(whose, _)| peer_name(whose).is_none())
            .map(|(whose, what)| format!("{whose}: {what} changed")),
    );
    lines.extend(peers(before, after, &other));
    lines
}

/// What is not as it stands in the file, because only a restart brings it about.
pub fn restarts(adopted: &Seen, file: &Seen) -> Vec<String> {
    let keys = differences(&adopted.config, &file.config).into_iter().map(|(key, ..)| key);
    let contents = changed_contents(adopted, file).into_iter().map(|(whose, what)| format!("{whose}: {what}"));
    keys.chain(contents).map(|what| format!("{what} changed: needs a restart")).collect()
}

/// Whose contents those of a peer are.
pub fn of_peer(name: &str) -> String {
    format!("peer {name}")
}

fn peer_name(whose: &str) -> Option<&str> {
    whose.strip_prefix("peer ")
}

/// Peers that came, went or changed, by name. Those that are not in the file have contents alone.
fn peers(before: &Seen, after: &Seen, contents: &BTreeSet<(String, &'static str)>) -> Vec<String> {
    let by_name = |config: &Config| -> BTreeMap<String, Peer> {
        config.peers.iter().map(|peer| (peer.name.clone(), peer.clone())).collect()
    };
    let (old, new) = (by_name(&before.config), by_name(&after.config));
    let touched = contents.iter().filter_map(|(whose, _)| peer_name(whose)).map(str::to_owned);
    let names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().chain(touched).collect();
    let line = |name: String| match (old.get(&name), new.get(&name)) {
        (None, Some(_)) => Some(format!("peer {name} added")),
        (Some(_), None) => Some(format!("peer {name} removed")),
        (old, new) => {
            let mut what: BTreeSet<String> = match (old, new) {
                (Some(old), Some(new)) => members(old, new),
                _ => BTreeSet::new(),
            };
            let own = of_peer(&name);
            what.extend(contents.iter().filter(|(whose, _)| *whose == own).map(|(_, what)| (*what).to_owned()));
            let what: Vec<String> = what.into_iter().collect();
            (!what.is_empty()).then(|| format!("peer {name}: {} changed", what.join(", ")))
        }
    };
    names.into_iter().filter_map(line).collect()
}

/// The keys of a block whose values differ.
fn members(old: &Peer, new: &Peer) -> BTreeSet<String> {
    let (old, new) = (flat(old), flat(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differing = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    differing.map(|key| key.split('.').next().unwrap_or(key).to_owned()).collect()
}

/// Keys outside of `[[peer]]` whose values differ, with both values.
fn differences(old: &Config, new: &Config) -> Vec<(String, Value, Value)> {
    let without_peers = |config: &Config| flat(&Config { peers: Vec::new(), ..config.clone() });
    let (old, new) = (without_peers(old), without_peers(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |values: &BTreeMap<String, Value>, key: &String| values.get(key).cloned().unwrap_or_default();
    let all = keys.into_iter().map(|key| (key.clone(), value(&old, key), value(&new, key)));
    all.filter(|(_, old, new)| old != new).collect()
}

/// Contents that both have, and that differ.
fn changed_contents(old: &Seen, new: &Seen) -> BTreeSet<(String, &'static str)> {
    let differs =
        |what: &&(String, &'static str), digest: &Digest| new.contents.get(*what).is_some_and(|other| other != digest);
    old.contents.iter().filter(|(what, digest)| differs(what, digest)).map(|(what, _)| what.clone()).collect()
}

/// All values by their keys, with dots between the parts.
fn flat<T: serde::Serialize>(value: &T) -> BTreeMap<String, Value> {
    fn walk(value: Value, key: String, flat: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(members) => {
                let below = |name: String| if key.is_empty() { name } else { format!("{key}.{name}") };
                members.into_iter().for_each(|(name, value)| walk(value, below(name), flat));
            }
            value => drop(flat.insert(key, value)),
        }
    }
    let mut all = BTreeMap::new();
    walk(serde_json::to_value(value).unwrap_or_default(), String::new(), &mut all);
    all
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(change: impl FnOnce(&mut Config, &mut Contents)) -> Seen {
        let peer = |name: &str| Peer {
            name: name.to_owned(),
            issuer: format!("https://{name}.example"),
            endpoint: Some(format!("wss://{name}.example/pushpull")),
            token_file: Some(format!("{name}.token").into()),
            ..Peer::default()
        };
        let mut seen = Seen::default();
        seen.config.peers = vec![peer("acme"), peer("globex")];
        for (whose, what) in
            [("peer acme", "token"), ("peer globex", "token"), ("server.tls", "certificate"), (ADMIN, "token")]
        {
            seen.contents.insert((whose.to_owned(), what), Digest::of(b"before"));
        }
        change(&mut seen.config, &mut seen.contents);
        seen
    }

    fn told(change: impl FnOnce(&mut Config, &mut Contents)) -> (Vec<String>, Vec<String>) {
        let (before, file) = (seen(|_, _| {}), seen(change));
        let adopted = file.adopted_by(&before);
        (changes(&before, &adopted), restarts(&adopted, &file))
    }

    #[test]
    fn the_same_configuration_changes_nothing() {
        assert_eq!(told(|_, _| {}), (vec![], vec![]));
    }

    #[test]
    fn keys_are_told_with_both_values() {
        let (changes, restart) = told(|config, _| {
            config.log.level = "debug".to_owned();
            config.delivery.ping_interval = std::time::Duration::from_secs(5);
            config.network.allow = vec!["10.0.0.0/8".to_owned()];
        });
        assert_eq!(
            changes,
            ["delivery.ping_interval: 20s → 5s", "log.level: info → debug", "network.allow: [] → [\"10.0.0.0/8\"]"]
        );
        assert!(restart.is_empty(), "{restart:?}");
    }

    #[test]
    fn peers_that_come_go_and_change_are_named_with_what_changed() {
        let (changes, restart) = told(|config, contents| {
            config.peers.remove(0);
            config.peers[0].endpoint = Some("wss://new.example/pushpull".to_owned());
            config.peers[0].accept = vec!["caep:*".to_owned()];
            config.peers[0].line = Some(77);
            config.peers.push(Peer { name: "initech".to_owned(), ..Peer::default() });
            contents.insert(("peer globex".to_owned(), "token"), Digest::of(b"a new secret"));
            contents.insert(("peer initech".to_owned(), "token"), Digest::of(b"whatever"));
        });
        assert_eq!(
            changes,
            ["peer acme removed", "peer globex: accept, endpoint, token changed", "peer initech added"]
        );
        assert!(restart.is_empty(), "{restart:?}");
    }

    #[test]
    fn a_peer_that_only_moved_in_the_file_has_not_changed() {
        assert_eq!(told(|config, _| config.peers.reverse()), (vec![], vec![]));
    }

    #[test]
    fn other_contents_are_told_as_changed_and_never_shown() {
        let (changes, _) = told(|_, contents| {
            contents.insert(("server.tls".to_owned(), "certificate"), Digest::of(b"another"));
            contents.insert(("peer acme".to_owned(), "token"), Digest::of(b"another"));
        });
        assert_eq!(changes, ["server.tls: certificate changed", "peer acme: token changed"]);
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays_as_it_is() {
        let change = |config: &mut Config, contents: &mut Contents| {
            config.server.listen = "127.0.0.1:9443".parse().unwrap();
            config.server.issuer = "https://other.example".to_owned();
            config.store.url = "sqlite:other.db".to_owned();
            config.admin.hosts = vec!["admin.example".to_owned()];
            config.delivery.window = 1;
            config.limits.inbox_max = 5;
            config.log.format = super::super::LogFormat::Json;
            config.server.tls.mode = super::super::TlsMode::DangerousPlaintext;
            contents.insert((ADMIN.to_owned(), "token"), Digest::of(b"another"));
        };
        let (changes, restart) = told(change);
        assert!(changes.is_empty(), "{changes:?}");
        let named: Vec<&str> =
            restart.iter().filter_map(|line| line.strip_suffix(" changed: needs a restart")).collect();
        assert_eq!(
            named,
            [
                "admin.hosts",
                "delivery.window",
                "limits.inbox_max",
                "log.format",
                "server.issuer",
                "server.listen",
                "server.tls.mode",
                "store.url",
                "admin: token"
            ]
        );
        let (before, file) = (seen(|_, _| {}), seen(change));
        let adopted = file.adopted_by(&before);
        assert_eq!(adopted.config, before.config);
        assert_eq!(restarts(&file.adopted_by(&adopted), &file), restart, "it is told again until it is done");
    }
}
