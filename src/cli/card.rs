//! `pushpull peer card`: what a partner needs to know of us, as the `[[peer]]` block that it pastes or adds.

use std::fmt::Write as _;

use serde_json::json;

use crate::codes::Code;
use crate::config::{Config, Peer, TlsMode, duration_text, is_loopback, is_slug};
use crate::wire::net::{Pin, Target};

use super::args::{Card, Global};
use super::site::Site;
use super::{Error, Exit, init, output};

pub(super) fn run(card: &Card, global: &Global) -> Result<Exit, Error> {
    let site = Site::of(global);
    let config = site.load()?;
    let (peer, remark) = of(&config, card)?;
    let text = format!(
        "# {issuer}, for a partner. No secret is in here. The partner runs:\n\
         #   pushpull peer add --card FILE\n{remark}{block}",
        issuer = config.server.issuer,
        block = block(&peer)
    );
    if global.json {
        output::json(&json!({ "card": text, "peer": peer }))?;
    } else {
        output::line(text.trim_end())?;
    }
    Ok(Exit::Done)
}

/// Us as a partner's peer, and a remark where an address is a guess.
fn of(config: &Config, card: &Card) -> Result<(Peer, String), Error> {
    let unusable = |what: &str, fault: &dyn std::fmt::Display| Error::new(Exit::Usage, format!("{what}: {fault}"));
    let plain = config.server.tls.mode == TlsMode::DangerousPlaintext;
    let (scheme, websocket) = if plain { ("http", "ws") } else { ("https", "wss") };
    let (authority, endpoint, remark) = match (&card.endpoint, &card.public) {
        (Some(endpoint), _) => {
            let target = Target::parse(endpoint).map_err(|error| unusable("--endpoint", &error))?;
            (target.authority(), target.with_websocket_scheme().to_string(), String::new())
        }
        (None, Some(public)) => {
            if public.contains('/') {
                return Err(Error::new(Exit::Usage, "--public is no host and port")
                    .expected("the host that partners reach us at, and its port where it is not the usual one")
                    .found(format!("{public:?}"))
                    .fix(
                        "leave out scheme and path, as in --public signals.acme.example:8443; --endpoint takes a URL",
                    ));
            }
            let target =
                Target::parse(&format!("{scheme}://{public}")).map_err(|error| unusable("--public", &error))?;
            (target.authority(), format!("{websocket}://{}/pushpull", target.authority()), String::new())
        }
        (None, None) => {
            let (authority, remark) = authority(config, plain)?;
            let endpoint = format!("{websocket}://{authority}/pushpull");
            (authority, endpoint, remark)
        }
    };
    if let Some(name) = card.name.as_deref().filter(|name| !is_slug(name)) {
        return Err(Error::new(Exit::Usage, "the name is no slug, and the partner could not add it")
            .expected("1 to 63 of a-z, 0-9 and -, not starting with -")
            .found(format!("{name:?}"))
            .fix("write --name with small letters, digits and hyphens"));
    }
    let name = card.name.clone().or_else(|| init::label(&config.server.issuer));
    let peer = Peer {
        name: name.unwrap_or_else(|| "partner".to_owned()),
        issuer: config.server.issuer.clone(),
        jwks_uri: Some(format!("{scheme}://{authority}/jwks.json")),
        audience: Some(config.server.audience().to_owned()),
        endpoint: Some(endpoint),
        tls_pin: pin(config)?,
        ..Peer::default()
    };
    Ok((peer, remark))
}

/// Host and port under which partners see us, as far as the configuration tells.
fn authority(config: &Config, plain: bool) -> Result<(String, String), Error> {
    let issuer =
        Target::parse(&config.server.issuer).map_err(|error| Error::new(Exit::ConfigInvalid, error.to_string()))?;
    let listen = config.server.listen;
    let names_port = config.server.issuer.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next());
    let names_port = names_port.is_some_and(|authority| authority.ends_with(&format!(":{}", issuer.port())));
    let standard = if plain { 80 } else { 443 };
    // Behind a loopback address there must be a proxy, and the issuer's address is that proxy's.
    let behind_proxy = listen.ip().is_loopback() && !is_loopback(&issuer);
    if names_port || listen.port() == standard || listen.port() == 0 || behind_proxy {
        return Ok((issuer.authority(), String::new()));
    }
    let host = issuer.authority();
    let host = host.strip_suffix(&format!(":{}", issuer.port())).unwrap_or(&host);
    let remark = format!(
        "# The issuer names no port, and server.listen has {port}: so partners are told {port}. If a proxy takes them in on\n\
         # {standard}, say so: pushpull peer card --public {host}\n",
        port = listen.port()
    );
    Ok((format!("{host}:{}", listen.port()), remark))
}

/// The pin of our certificate, if partners could not check it otherwise.
fn pin(config: &Config) -> Result<Option<String>, Error> {
    let (TlsMode::SelfSigned, Some(cert)) = (config.server.tls.mode, &config.server.tls.cert) else { return Ok(None) };
    let unusable = |fault: &dyn std::fmt::Display| {
        Error::failed(format!("the certificate {} cannot be read: {fault}", cert.display()))
            .code(Code::KeyUnusable)
            .fix("`pushpull init` makes one; server.tls.cert names it")
    };
    let pem = std::fs::read(cert).map_err(|error| unusable(&error))?;
    Ok(Some(Pin::of_cert_pem(&pem).map_err(|error| unusable(&error))?.to_string()))
}

/// A peer as its block in the file. What is as by default is left out.
pub(super) fn block(peer: &Peer) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let mut text = "[[peer]]\n".to_owned();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {}", quoted(&value));
        }
    };
    put("name", Some(peer.name.clone()));
    put("issuer", Some(peer.issuer.clone()));
    put("jwks_uri", peer.jwks_uri.clone());
    put("jwks_file", path(&peer.jwks_file));
    put("audience", peer.audience.clone());
    put("accept_audience", peer.accept_audience.clone());
    put("transport", Some(peer.transport.to_string()));
    put("endpoint", peer.endpoint.clone());
    put("poll_endpoint", peer.poll_endpoint.clone());
    put("token_file", path(&peer.token_file));
    put("accept_token_file", path(&peer.accept_token_file));
    put("tls_pin", peer.tls_pin.clone());
    if peer.jwks_refresh != Peer::default().jwks_refresh {
        put("jwks_refresh", Some(duration_text(peer.jwks_refresh)));
    }
    if let Some(token) = &peer.token {
        let _ = writeln!(text, "token = {{ env = {} }}", quoted(&token.env));
    }
    for (key, patterns) in [("send", &peer.send), ("accept", &peer.accept)] {
        if *patterns != ["*"] {
            let list = toml::Value::from(patterns.clone());
            let _ = writeln!(text, "{key} = {list}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    fn card(issuer: &str, listen: &str) -> (Peer, String) {
        let text = format!(
            "[server]\nissuer = \"{issuer}\"\nlisten = \"{listen}\"\ntls = {{ mode = \"files\", cert = \"c\", key = \"k\" }}\n"
        );
        let config = config::parse(&text, "pushpull.toml".as_ref(), &Environment::default()).expect("sound");
        of(&config, &Card { name: None, endpoint: None, public: None }).expect("a card")
    }

    #[test]
    fn the_endpoint_follows_from_the_issuer_and_the_port_that_listens() {
        for (issuer, listen, endpoint, has_remark) in [
            ("https://signals.acme.example", "0.0.0.0:443", "wss://signals.acme.example/pushpull", false),
            ("https://signals.acme.example", "0.0.0.0:8443", "wss://signals.acme.example:8443/pushpull", true),
            ("https://signals.acme.example:9000/t", "0.0.0.0:8443", "wss://signals.acme.example:9000/pushpull", false),
            ("https://signals.acme.example", "127.0.0.1:8443", "wss://signals.acme.example/pushpull", false),
            ("https://127.0.0.1:8443", "127.0.0.1:8443", "wss://127.0.0.1:8443/pushpull", false),
            ("https://localhost", "127.0.0.1:8443", "wss://localhost:8443/pushpull", true),
        ] {
            let (peer, remark) = card(issuer, listen);
            assert_eq!(peer.endpoint.as_deref(), Some(endpoint), "{issuer} {listen}");
            assert_eq!(!remark.is_empty(), has_remark, "{issuer} {listen}: {remark}");
        }
        assert_eq!(card("https://signals.acme.example", "0.0.0.0:443").0.name, "acme");
    }

    #[test]
    fn a_block_reads_back_as_the_same_peer() {
        let (mut peer, _) = card("https://signals.acme.example", "0.0.0.0:443");
        peer.send = vec!["caep:*".to_owned(), "risc:*".to_owned()];
        peer.accept_token_file = Some("from \"x\".token".into());
        #[derive(serde::Deserialize)]
        struct File {
            peer: Vec<Peer>,
        }
        let read: File = toml::from_str(&block(&peer)).expect("TOML");
        assert_eq!(read.peer, [peer]);
    }
}
