//! How jtis become keys.

use siphasher::sip128::SipHasher24;
use smallvec::SmallVec;

use super::Key;
use crate::peer::{Direction, PeerId};
use crate::set::Jti;

/// Hashes under the random bytes of one file.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::sqlite) enum Salt {
    /// SipHash-2-4 under a key of sixteen bytes: nobody who does not know it can choose jtis that fall together. Hashed
    /// several times for each SET, jtis cost less than half of what they do by SHA-256.
    Sip([u8; 16]),
    /// The beginning of SHA-256, behind thirty-two bytes: files made by schema 5 and before. What they remember cannot be
    /// hashed anew without its jtis.
    Sha([u8; 32]),
}

impl Salt {
    /// The random bytes as the file has them: of which kind they are their length tells.
    pub(in crate::store::sqlite) fn read(bytes: &[u8]) -> Option<Self> {
        let sip = bytes.try_into().map(Self::Sip);
        sip.or_else(|_| bytes.try_into().map(Self::Sha)).ok()
    }

    pub(super) fn key(&self, peer: PeerId, direction: Direction, jti: &Jti) -> Key {
        let way = match direction {
            Direction::Out => 0,
            Direction::In => 1,
        };
        // On the stack for any jti of a sane length, and hashed in one go.
        let mut text = SmallVec::<[u8; 256]>::new();
        if let Self::Sha(salt) = self {
            text.extend_from_slice(salt);
        }
        text.extend_from_slice(&peer.0.to_le_bytes());
        text.push(way);
        text.extend_from_slice(jti.as_str().as_bytes());
        match self {
            Self::Sip(key) => Key(SipHasher24::new_with_key(key).hash(&text).as_bytes()),
            Self::Sha(_) => {
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
                let mut key = [0; 16];
                key.copy_from_slice(&hash.as_ref()[..16]);
                Key(key)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys stand in the files: the same jti must have the same for ever.
    #[test]
    fn a_jti_has_the_key_that_it_has_always_had() {
        let hex = |key: Key| key.0.map(|byte| format!("{byte:02x}")).concat();
        for (salt, kept) in
            [(vec![7; 16], "4a72ea99e43ec2ad6681e6b2e2890ef5"), (vec![7; 32], "9274253511ca7a9b3889cae7942b26eb")]
        {
            let salt = Salt::read(&salt).unwrap();
            assert_eq!(hex(salt.key(PeerId(3), Direction::In, &"one".into())), kept, "{salt:?}");
            let others = [(4, Direction::In, "one"), (3, Direction::Out, "one"), (3, Direction::In, "two")];
            for (peer, direction, jti) in others {
                assert_ne!(hex(salt.key(PeerId(peer), direction, &jti.into())), kept);
            }
        }
        for length in [0, 15, 17, 31, 33] {
            assert!(Salt::read(&vec![7; length]).is_none(), "{length} bytes");
        }
    }
}
