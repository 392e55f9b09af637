//! Frames of RFC 6455 as a judge reads them: of what we write every byte has to be right.

use super::site::LIMITS;
use super::strict;

/// What a stream of frames came to.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    /// Texts of the messages.
    pub texts: Vec<Vec<u8>>,
    /// The code of the close frame, and its reason; a close frame without a code has neither.
    pub close: Option<Option<(u16, String)>>,
}

/// Reads what one end of a WebSocket has written: whole frames, well made, nothing after the close frame, and texts that
/// are strict JSON and no longer than the other end may take.
pub fn read(mut bytes: &[u8], masked: bool) -> Heard {
    let mut heard = Heard::default();
    while let Some((&[first, second], rest)) = bytes.split_first_chunk::<2>() {
        assert!(heard.close.is_none(), "something comes after the close frame");
        assert_eq!(first & 0xf0, 0x80, "a frame is no whole message, or has a reserved bit set: {first:#x}");
        assert_eq!(second & 0x80 != 0, masked, "who must mask does, and nobody else");
        let (length, rest) = length(second & 0x7f, rest);
        let (mask, rest) = if masked { rest.split_at_checked(4).expect("a mask") } else { (&[0; 4][..], rest) };
        let (payload, rest) = rest.split_at_checked(length).expect("the payload is whole");
        let payload: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        match first & 0x0f {
            1 => heard.texts.push(payload),
            8 => heard.close = Some(closing(&payload)),
            9 | 10 => assert!(payload.len() < 126, "a control frame is short"),
            opcode => panic!("a frame of kind {opcode} is never sent"),
        }
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame is left");
    for text in &heard.texts {
        assert!(text.len() <= LIMITS.object_bytes_max && strict::read(text).is_some(), "{}", text.escape_ascii());
    }
    heard
}

fn length(short: u8, rest: &[u8]) -> (usize, &[u8]) {
    let bytes = match short {
        126 => 2,
        127 => 8,
        short => return (short.into(), rest),
    };
    let (length, rest) = rest.split_at_checked(bytes).expect("a length");
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    assert!(length >= if bytes == 2 { 126 } else { 1 << 16 }, "the length is written in the shortest way");
    (length, rest)
}

/// RFC 6455 §7.4: a code that may be sent, and a reason in UTF-8.
fn closing(payload: &[u8]) -> Option<(u16, String)> {
    let (&code, reason) = payload.split_first_chunk::<2>()?;
    let code = u16::from_be_bytes(code);
    assert!((1000..=1003).contains(&code) || (1007..=1014).contains(&code) || (3000..5000).contains(&code), "{code}");
    assert!(reason.len() <= 123);
    Some((code, String::from_utf8(reason.to_vec()).expect("a reason is UTF-8")))
}
