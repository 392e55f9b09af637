//! What every endpoint asks of a request before it looks at its body: who, by which method, in which media type, how long.

use super::daemon::Daemon;
use super::http::{Message, is_error, request};
use super::partner::Partner;
use super::soon;

/// An endpoint to which partners post.
pub(crate) struct Door<'d> {
    pub(crate) daemon: &'d Daemon,
    pub(crate) partner: &'d Partner,
    pub(crate) path: &'static str,
    pub(crate) media: &'static str,
    /// The length of a body that is a byte too long.
    pub(crate) too_long: usize,
}

impl Door<'_> {
    /// Each wrong request has its status, and none of them is asked for its body: none is sent.
    pub(crate) async fn is_kept(&self) {
        self.asks_who().await;
        self.asks_what().await;
        let bearer = self.partner.bearer();
        let (auth, media) = (("Authorization", bearer.as_str()), ("Content-Type", self.media));
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = self.ask(method, &[auth]).await;
            is_error(&answer, 405);
            assert_eq!(answer.header("allow"), Some("POST"), "{method}: {answer:?}");
        }
        for origin in ["https://evil.example", "null"] {
            is_error(&self.ask("POST", &[auth, media, ("Origin", origin), ("Content-Length", "9")]).await, 403);
        }
        for length in [self.too_long, 1_000_000_000] {
            let length = length.to_string();
            is_error(&self.ask("POST", &[auth, media, ("Content-Length", &length)]).await, 413);
            is_error(&self.ask("POST", &[media, ("Content-Length", &length)]).await, 401);
        }
    }

    async fn asks_who(&self) {
        let (right, ours) = (self.partner.bearer(), format!("Bearer {}", self.partner.our_token));
        let media = ("Content-Type", self.media);
        for token in [None, Some("Bearer wrong"), Some(ours.as_str()), Some(&right[..right.len() - 1])] {
            let mut headers = vec![media, ("Content-Length", "1000")];
            headers.extend(token.map(|token| ("Authorization", token)));
            let answer = self.ask("POST", &headers).await;
            is_error(&answer, 401);
            assert_eq!(answer.json()["err"], "authentication_failed");
            assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
        }
    }

    async fn asks_what(&self) {
        let bearer = self.partner.bearer();
        let auth = ("Authorization", bearer.as_str());
        let latin = format!("{}; charset=iso-8859-1", self.media);
        for wrong in ["text/plain", "application/jwt", "application/x-www-form-urlencoded", &latin] {
            let headers = [auth, ("Content-Type", wrong), ("Content-Length", "1000")];
            is_error(&self.ask("POST", &headers).await, 415);
        }
        is_error(&self.ask("POST", &[auth, ("Content-Length", "1000")]).await, 415);
        for encoding in ["gzip", "identity"] {
            let headers = [auth, ("Content-Type", self.media), ("Content-Encoding", encoding)];
            is_error(&self.ask("POST", &headers).await, 415);
        }
    }

    /// Bodies are taken with parameters that change nothing about the media type, and whatever the request accepts.
    pub(crate) async fn takes(&self, status: u16, body: impl Fn(usize) -> String) {
        let bearer = self.partner.bearer();
        let media = self.media;
        let types =
            [format!("{media}; charset=utf-8"), format!("{media};charset=\"UTF-8\"; v=1"), media.to_uppercase()];
        for (number, media) in types.iter().enumerate() {
            for (accept, number) in [(None, 2 * number), (Some("text/html"), 2 * number + 1)] {
                let mut headers = vec![("Authorization", bearer.as_str()), ("Content-Type", media)];
                headers.extend(accept.map(|accept| ("Accept", accept)));
                let mut wire = self.daemon.connect().await;
                let body = body(number);
                let answer = soon(self.path, wire.ask("POST", self.path, &headers, body.as_bytes())).await.unwrap();
                let answer = answer.expect("an answer");
                assert_eq!(answer.status(), status, "{media}, {accept:?}: {}", answer.text());
            }
        }
    }

    /// Sends a head alone.
    async fn ask(&self, method: &str, headers: &[(&str, &str)]) -> Message {
        let mut wire = self.daemon.connect().await;
        wire.write(&request(method, self.path, headers, b"")).await.unwrap();
        let answer = soon(self.path, wire.read()).await;
        answer.unwrap_or_else(|| panic!("{method} {}: no answer", self.path))
    }
}
