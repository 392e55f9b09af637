//! Where a request goes: a URL taken apart and checked, so that what is dialled is what the operator wrote.

use std::net::IpAddr;

use http::uri::PathAndQuery;

/// A checked `https`, `http`, `wss` or `ws` URL.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Target {
    scheme: Scheme,
    host: url::Host,
    port: u16,
    path: PathAndQuery,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Scheme {
    Http,
    Https,
    Ws,
    Wss,
}

/// Why a URL cannot be a target. The text never repeats the URL's user part.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid URL: {0}")]
pub struct InvalidTarget(&'static str);

impl Target {
    /// Takes a URL apart. Refuses user names, passwords, fragments, and characters that software reads in different ways.
    pub fn parse(text: &str) -> Result<Self, InvalidTarget> {
        let (scheme, rest) =
            text.split_once("://").ok_or(InvalidTarget("expected https://host/path, found no \"://\""))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            _ => return Err(InvalidTarget("the scheme must be https, wss, http or ws")),
        };
        // The URL standard strips tabs and turns backslashes into slashes; whoever else reads the URL may not.
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(InvalidTarget(
                "only visible ASCII characters but the backslash are allowed; write other letters of a host name as \
                 xn--…, of a path as %XX",
            ));
        }
        if rest.contains('#') {
            return Err(InvalidTarget("a fragment (#…) never reaches the server; leave it out"));
        }
        if rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
            return Err(InvalidTarget("no user name or password may stand in a URL; use token_file"));
        }
        let url = url::Url::parse(text).map_err(|_| InvalidTarget("the host or port is malformed"))?;
        let host = url.host().ok_or(InvalidTarget("the host is missing"))?.to_owned();
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(InvalidTarget("port 0 is no port"))?;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()).parse(),
            None => url.path().parse(),
        };
        Ok(Self { scheme, host, port, path: path.map_err(|_| InvalidTarget("the path or query is malformed"))? })
    }

    /// The same place spoken to by plain requests: `wss` becomes `https`, `ws` becomes `http`.
    pub fn with_http_scheme(mut self) -> Self {
        self.scheme = if self.is_secure() { Scheme::Https } else { Scheme::Http };
        self
    }

    /// The same place spoken to over WebSocket: `https` becomes `wss`, `http` becomes `ws`.
    pub fn with_websocket_scheme(mut self) -> Self {
        self.scheme = if self.is_secure() { Scheme::Wss } else { Scheme::Ws };
        self
    }

    /// TLS is used.
    pub fn is_secure(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Wss)
    }

    /// The scheme is `wss` or `ws`.
    pub fn is_websocket(&self) -> bool {
        matches!(self.scheme, Scheme::Ws | Scheme::Wss)
    }

    /// The host: a name in ASCII, or an address without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            url::Host::Domain(name) => name.clone(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The host if it is an address and no name.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            url::Host::Domain(_) => None,
            url::Host::Ipv4(address) => Some((*address).into()),
            url::Host::Ipv6(address) => Some((*address).into()),
        }
    }

    /// The port, also when the URL leaves it out.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as the request line carries them.
    pub fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// Host and, unless it is the scheme's own, port: the `Host` header.
    pub fn authority(&self) -> String {
        let default = if self.is_secure() { 443 } else { 80 };
        if self.port == default { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// For people and logs: some partners put a secret into the query, so it is not shown.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        };
        let query = if self.path.query().is_some() { "?…" } else { "" };
        write!(f, "{scheme}://{}{}{query}", self.authority(), self.path.path())
    }
}

impl std::str::FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("wss://Signals.Globex.example:8443/pushpull?a=b").unwrap();
        assert!(target.is_secure() && target.is_websocket());
        assert_eq!(target.host(), "signals.globex.example");
        assert_eq!(target.port(), 8443);
        assert_eq!(target.path(), "/pushpull?a=b");
        assert_eq!(target.authority(), "signals.globex.example:8443");
        assert_eq!(target.to_string(), "wss://signals.globex.example:8443/pushpull?…");
        assert_eq!(target.with_http_scheme().to_string(), "https://signals.globex.example:8443/pushpull?…");
    }

    #[test]
    fn default_ports_are_left_out_and_a_missing_path_is_the_root() {
        for (text, authority, port) in [
            ("https://a.example", "a.example", 443),
            ("http://[::1]:80/", "[::1]", 80),
            ("ws://127.0.0.1", "127.0.0.1", 80),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.authority().as_str(), target.port()), (authority, port));
            assert_eq!(target.path(), "/");
        }
        assert_eq!(Target::parse("http://[::1]/").unwrap().address(), Some("::1".parse().unwrap()));
        let target = Target::parse("http://127.0.0.1:8080/x").unwrap();
        assert_eq!(target.with_websocket_scheme().to_string(), "ws://127.0.0.1:8080/x");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            "example.com",
            "https:example.com",
            "ftp://a.example/",
            "https://",
            "https://user@a.example/",
            "https://user:secret@a.example/",
            "https://a.example/#fragment",
            "https://a.example\\@b.example/",
            "https://a.example/\r\nHost: b",
            "https://a.exam\tple/",
            "https://a.example/ b",
            "https://bücher.example/",
            "https://a.example:0/",
            "https://a.example:99999/",
            "https://[::1/",
        ] {
            let refused = Target::parse(text).expect_err(text).to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
        assert!(Target::parse("https://a.example/users/@me").is_ok(), "an @ in the path names no user");
    }
}
