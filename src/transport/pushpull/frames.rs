//! Follows the frames in a stream of bytes (RFC 6455 §5.2): where messages begin and end, not what they say.

/// How far the stream has come.
#[derive(Debug)]
pub(super) struct Frames {
    place: Place,
    /// A fragment has come, and not yet the last one of its message.
    fragmented: bool,
}

#[derive(Debug)]
enum Place {
    /// In the answer to our handshake: so many bytes of the empty line that ends it have come.
    Handshake(usize),
    /// In a frame's header, or before its first byte.
    Header { bytes: [u8; HEADER_MAX], len: usize },
    /// In a frame's payload: so many bytes are left.
    Payload { left: u64, frame: Frame },
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    last: bool,
    control: bool,
}

/// What some bytes came to.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct News {
    /// Bytes of messages.
    pub(super) payload: usize,
    /// Frames that came in the middle of a message and did not end it.
    pub(super) fragments: u32,
    /// A message, or a control frame between two, is complete.
    pub(super) message_ended: bool,
}

const HEADER_MAX: usize = 14;
const HEADER: Place = Place::Header { bytes: [0; HEADER_MAX], len: 0 };
const END_OF_HEAD: &[u8; 4] = b"\r\n\r\n";

impl Frames {
    /// The next byte begins a frame.
    pub(super) fn begun() -> Self {
        Self { place: HEADER, fragmented: false }
    }

    /// First comes the head of an HTTP answer.
    pub(super) fn after_handshake() -> Self {
        Self { place: Place::Handshake(0), fragmented: false }
    }

    pub(super) fn in_handshake(&self) -> bool {
        matches!(self.place, Place::Handshake(_))
    }

    /// Something has begun whose end is not there yet.
    pub(super) fn in_message(&self) -> bool {
        let in_frame = match self.place {
            Place::Handshake(_) => false,
            Place::Header { len, .. } => len > 0,
            Place::Payload { .. } => true,
        };
        in_frame || self.fragmented
    }

    /// Goes on by these bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> News {
        let mut news = News::default();
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.place {
                Place::Handshake(matched) => {
                    bytes = rest;
                    *matched = match END_OF_HEAD.get(*matched) {
                        Some(&wanted) if wanted == byte => *matched + 1,
                        _ => usize::from(byte == b'\r'),
                    };
                    if *matched == END_OF_HEAD.len() {
                        self.place = HEADER;
                    }
                }
                Place::Header { bytes: header, len } => {
                    bytes = rest;
                    header[*len] = byte;
                    *len += 1;
                    let (header, len) = (*header, *len);
                    if len >= 2 && len == header_len(header[1]) {
                        let frame = Frame { last: header[0] & 0x80 != 0, control: header[0] & 0x08 != 0 };
                        match payload_len(&header) {
                            0 => self.end(frame, &mut news),
                            left => self.place = Place::Payload { left, frame },
                        }
                    }
                }
                Place::Payload { left, frame } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[here..];
                    *left -= here as u64;
                    let (left, frame) = (*left, *frame);
                    if !frame.control {
                        news.payload += here;
                    }
                    if left == 0 {
                        self.end(frame, &mut news);
                    }
                }
            }
        }
        news
    }

    fn end(&mut self, frame: Frame, news: &mut News) {
        self.place = HEADER;
        if !frame.control {
            self.fragmented = !frame.last;
        }
        if !self.fragmented {
            news.message_ended = true;
        } else {
            news.fragments = news.fragments.saturating_add(1);
        }
    }
}

/// How long the header is, by its second byte.
fn header_len(second: u8) -> usize {
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    2 + length + mask
}

fn payload_len(header: &[u8; HEADER_MAX]) -> u64 {
    let [_, second, a, b, c, d, e, f, g, h, ..] = *header;
    match second & 0x7f {
        126 => u64::from(u16::from_be_bytes([a, b])),
        127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        short => u64::from(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a payload of so many bytes.
    fn frame(first: u8, len: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match len {
            0..126 => bytes.push(mask | len as u8),
            126..0x1_0000 => {
                bytes.push(mask | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0xaa; if masked { 4 } else { 0 }]);
        bytes.extend(vec![0x55; len]);
        bytes
    }

    #[test]
    fn frames_of_every_size_are_followed_however_they_are_cut() {
        for masked in [false, true] {
            for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
                let bytes = frame(0x81, len, masked);
                for cut in [1, 2, 3, 7, 1000, usize::MAX] {
                    let mut frames = Frames::begun();
                    let mut payload = 0;
                    let mut ended = 0;
                    for (index, part) in bytes.chunks(cut.min(bytes.len())).enumerate() {
                        assert_eq!(frames.in_message(), index > 0);
                        let news = frames.follow(part);
                        payload += news.payload;
                        ended += usize::from(news.message_ended);
                    }
                    assert_eq!((payload, ended, frames.in_message()), (len, 1, false), "{len} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_message_ends_with_its_last_fragment_and_not_with_a_ping() {
        let mut frames = Frames::begun();
        frames.follow(&frame(0x01, 10, true));
        assert!(frames.in_message());
        let news = frames.follow(&[frame(0x89, 5, true), frame(0x00, 0, true), frame(0x00, 3, true)].concat());
        assert_eq!(news, News { payload: 3, fragments: 3, message_ended: false });
        assert!(frames.in_message());
        assert!(frames.follow(&frame(0x80, 0, true)).message_ended);
        assert!(!frames.in_message());
        let news = frames.follow(&frame(0x89, 5, true));
        assert_eq!(news, News { payload: 0, fragments: 0, message_ended: true }, "a ping between messages");
    }

    #[test]
    fn frames_begin_after_the_answer_to_the_handshake() {
        let answer = [b"HTTP/1.1 101 x\r\na: b\r\r\n\r\n".to_vec(), frame(0x81, 3, false)].concat();
        for cut in 1..answer.len() {
            let mut frames = Frames::after_handshake();
            let (mut payload, mut ended) = (0, false);
            for part in answer.chunks(cut) {
                assert!(frames.in_handshake() || !ended);
                let news = frames.follow(part);
                payload += news.payload;
                ended |= news.message_ended;
            }
            assert!(ended && payload == 3 && !frames.in_handshake(), "{cut}");
        }
    }
}
