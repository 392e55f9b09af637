//! Finds whole HTTP requests in what passes by.

/// One connection's requests, as their bytes come. What is not plain HTTP/1.1 is let pass without a look.
#[derive(Default)]
pub(super) struct Requests {
    pending: Vec<u8>,
    /// The connection is something else by now: TLS, or a WebSocket.
    other: bool,
}

const HEAD_END: &[u8] = b"\r\n\r\n";
/// The longest request that is put together.
const BYTES_MAX: usize = 8 << 20;

impl Requests {
    /// Takes note of the next bytes; the POST requests that they complete.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut complete = Vec::new();
        if self.other {
            return complete;
        }
        self.pending.extend_from_slice(bytes);
        while let Some(at) = self.pending.windows(HEAD_END.len()).position(|window| window == HEAD_END) {
            let head = String::from_utf8_lossy(&self.pending[..at]).to_ascii_lowercase();
            if head.contains("\r\nupgrade:") || !(head.starts_with("post ") || head.starts_with("get ")) {
                self.give_up();
                return complete;
            }
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            let end = at + HEAD_END.len() + length;
            if self.pending.len() < end {
                break;
            }
            let rest = self.pending.split_off(end);
            let request = std::mem::replace(&mut self.pending, rest);
            if head.starts_with("post ") {
                complete.push(request);
            }
        }
        let begins = |verb: &[u8]| self.pending.iter().zip(verb).all(|(found, expected)| found == expected);
        if self.pending.len() > BYTES_MAX || !(begins(b"POST ") || begins(b"GET ")) {
            self.give_up();
        }
        complete
    }

    fn give_up(&mut self) {
        *self = Self { pending: Vec::new(), other: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_found_however_they_are_cut() {
        let post = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_vec();
        let get = b"GET /b HTTP/1.1\r\nHost: c\r\n\r\n".to_vec();
        let stream = [post.clone(), get, post.clone()].concat();
        for piece in 1..stream.len() {
            let mut requests = Requests::default();
            let found: Vec<Vec<u8>> = stream.chunks(piece).flat_map(|bytes| requests.follow(bytes)).collect();
            assert_eq!(found, [post.clone(), post.clone()], "in pieces of {piece}");
        }
    }

    #[test]
    fn a_websocket_and_tls_hold_no_requests() {
        let post = b"POST /a HTTP/1.1\r\n\r\n";
        for first in [b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".as_slice(), b"\x16\x03\x01"] {
            let mut requests = Requests::default();
            assert!(requests.follow(first).is_empty());
            assert!(requests.follow(post).is_empty());
        }
    }
}
