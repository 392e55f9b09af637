//! The accounts: every jti that one side had accepted or acked, held against every jti in the other's inbox.

use std::path::Path;

use crate::cli::Error;

/// One direction's accounts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Accounts {
    /// Accepted by `send`.
    pub(super) sent: u64,
    /// Settled by an ack.
    pub(super) acked: u64,
    /// Read from the other side's inbox.
    pub(super) received: u64,
    /// Acked, and not in the inbox; or neither settled nor queued any more.
    pub(super) lost: u64,
    /// Further copies in the inbox.
    pub(super) doubled: u64,
    /// In the inbox, or acked, and never sent.
    pub(super) strange: u64,
}

impl Accounts {
    /// Of what was sent from one folder to the other. `queued`: so many still wait, of right.
    pub(super) fn of(from: &Path, to: &Path, queued: u64) -> Result<Self, Error> {
        let sent = read(&from.join("sent.jtis"))?;
        let acked = read(&from.join("acked.jtis"))?;
        let received = read(&to.join("received.jtis"))?;
        Ok(Self::count(sent, acked, received, queued))
    }

    fn count(sent: Vec<u128>, acked: Vec<u128>, received: Vec<u128>, queued: u64) -> Self {
        let distinct = |list: &[u128]| {
            let mut list = list.to_vec();
            list.dedup();
            list
        };
        let (all, ended, came) = (distinct(&sent), distinct(&acked), distinct(&received));
        let missing = |list: &[u128], from: &[u128]| list.iter().filter(|key| from.binary_search(key).is_err()).count();
        let unsettled = (all.len() - all.len().min(ended.len())) as u64;
        let vanished = missing(&ended, &came) as u64 + unsettled.saturating_sub(queued);
        Self {
            sent: sent.len() as u64,
            acked: acked.len() as u64,
            received: received.len() as u64,
            lost: vanished,
            doubled: ((received.len() - came.len()) + (acked.len() - ended.len())) as u64,
            strange: (missing(&came, &all) + missing(&ended, &all)) as u64,
        }
    }

    pub(super) fn ok(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.strange == 0
    }
}

/// The jtis of a list, sorted; none if there is no list.
fn read(path: &Path) -> Result<Vec<u128>, Error> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes.map_err(|error| Error::unreadable(path, &error))?,
    };
    let mut keys: Vec<u128> =
        bytes.chunks_exact(16).filter_map(|chunk| chunk.try_into().ok()).map(u128::from_le_bytes).collect();
    keys.sort_unstable();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_strange_is_told_and_what_waits_is_not() {
        let count = |sent: &[u128], acked: &[u128], received: &[u128], queued| {
            Accounts::count(sent.to_vec(), acked.to_vec(), received.to_vec(), queued)
        };
        let told = |accounts: Accounts| (accounts.lost, accounts.doubled, accounts.strange, accounts.ok());
        assert_eq!(told(count(&[1, 2, 3], &[1, 2, 3], &[1, 2, 3], 0)), (0, 0, 0, true));
        assert_eq!(told(count(&[1, 2, 3], &[1, 2, 3], &[1, 3], 0)), (1, 0, 0, false));
        assert_eq!(told(count(&[1, 2, 3], &[1, 2], &[1, 2], 0)), (1, 0, 0, false), "neither settled nor queued");
        assert_eq!(told(count(&[1, 2, 3], &[1, 2], &[1, 2], 1)), (0, 0, 0, true));
        assert_eq!(told(count(&[1, 2], &[1, 2], &[1, 2, 2], 0)), (0, 1, 0, false));
        assert_eq!(told(count(&[1, 2], &[1, 2, 2], &[1, 2], 0)), (0, 1, 0, false));
        assert_eq!(told(count(&[1], &[1], &[1, 9], 0)), (0, 0, 1, false));
        assert_eq!(told(count(&[1], &[1, 9], &[1], 0)), (1, 0, 1, false));
    }
}
