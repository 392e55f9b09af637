//! The store's traits, each call handed to the writer, to a reader, or answered from RAM.

use std::sync::Arc;

use tokio::sync::watch;

use super::kept::Position;
use super::schema::{self, Meta};
use super::seen::{Key, Look};
use super::shared::Consumer;
use super::{Sqlite, archive, dead, job, reader};
use crate::clock::Wall;
use crate::peer::{DeadPage, Direction, Page, PeerId, Remembered, Saved, Select, Stretch, Write};
use crate::set::Jti;
use crate::store::{Bookmark, ConsumerAt, Epoch, Error, Handed, Journal, Keep, Leaf, Pending, Registry};

impl Journal for Sqlite {
    fn recover(&self, peer: PeerId) -> Pending<'_, Saved> {
        // By the writer, so that a commit which was begun and given up is either in it or never happens.
        Box::pin(self.ask(1, move |batch| batch.saved(peer)))
    }

    fn commit(&self, peer: PeerId, _epoch: Epoch, writes: Arc<Vec<Write>>) -> Pending<'_, ()> {
        Box::pin(self.ask(writes.len() + 1, move |batch| batch.commit(peer, &writes)))
    }

    fn known(&self, peer: PeerId, direction: Direction, jtis: Vec<Jti>) -> Pending<'_, Vec<Option<Remembered>>> {
        let keys: Vec<_> = jtis.iter().map(|jti| self.shared.seen.key(peer, direction, jti)).collect();
        Box::pin(self.look_up(keys))
    }

    fn read_outbox(&self, peer: PeerId, select: Select) -> Pending<'_, Page> {
        Box::pin(reader::read(&self.shared, move |conn, _| reader::outbox(conn, peer, select)))
    }

    fn read_settled(&self, peer: PeerId, since: Wall, from: Bookmark, sets_max: usize) -> Pending<'_, Leaf> {
        Box::pin(reader::read(&self.shared, move |conn, _| archive::leaf(conn, peer, since, from, sets_max)))
    }

    fn job(&self, peer: PeerId, name: String) -> Pending<'_, Option<String>> {
        Box::pin(reader::read(&self.shared, move |conn, _| job::find(conn, peer, &name)))
    }

    fn begin_job(&self, peer: PeerId, name: String, definition: String, at: Wall) -> Pending<'_, String> {
        Box::pin(self.ask(1, move |batch| job::begin(batch.conn, peer, &name, &definition, at)))
    }

    fn forget_settled(&self, keep: Keep) -> Pending<'_, bool> {
        Box::pin(self.ask(1, move |batch| archive::forget(batch.conn, keep)))
    }

    fn give_back(&self) -> Pending<'_, bool> {
        Box::pin(self.ask(1, |batch| batch.give_back()))
    }

    fn read_dead_letters(&self, stretch: Stretch) -> Pending<'_, DeadPage> {
        Box::pin(reader::read(&self.shared, move |conn, shared| {
            dead::stretch(conn, stretch).inspect(|page| shared.report_damaged_letters(&page.damaged))
        }))
    }

    fn dead_letters_at(&self, peer: PeerId, seqs: Vec<u64>) -> Pending<'_, DeadPage> {
        Box::pin(reader::read(&self.shared, move |conn, shared| {
            dead::at(conn, peer, seqs).inspect(|page| shared.report_damaged_letters(&page.damaged))
        }))
    }

    fn read_inbox(&self, consumer: String, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        Box::pin(self.hand_out(consumer, after, rows_max))
    }

    fn peek_inbox(&self, after: Option<u64>, rows_max: usize) -> Pending<'_, Vec<Handed>> {
        Box::pin(self.peek(after, rows_max))
    }

    fn confirm(&self, consumer: String, up_to: u64) -> Pending<'_, ()> {
        Box::pin(self.ask(1, move |batch| batch.confirm(&consumer, up_to)))
    }

    fn consumers(&self) -> Vec<ConsumerAt> {
        let at = |(name, consumer): (&String, &Consumer)| {
            let Position { confirmed, handed } = consumer.durable;
            ConsumerAt { name: name.clone(), confirmed, handed }
        };
        self.shared.consumers().iter().map(at).collect()
    }

    fn forget_consumer(&self, consumer: String) -> Pending<'_, bool> {
        Box::pin(self.ask(1, move |batch| Ok(batch.forget_consumer(&consumer))))
    }

    fn history(&self, jti: Jti) -> Pending<'_, Vec<(PeerId, Direction, Remembered)>> {
        Box::pin(reader::read(&self.shared, move |conn, shared| {
            let peers: Vec<PeerId> = shared.directory().names.keys().copied().collect();
            let mut history = Vec::new();
            for peer in peers {
                for direction in [Direction::Out, Direction::In] {
                    let key = shared.seen.key(peer, direction, &jti);
                    history.extend(shared.seen.find(conn, key)?.map(|found| (peer, direction, found)));
                }
            }
            Ok(history)
        }))
    }

    fn purge(&self, memory_before: Wall) -> Pending<'_, bool> {
        Box::pin(self.purge_some(memory_before))
    }

    fn last_time(&self) -> Pending<'_, Option<Wall>> {
        Box::pin(reader::read(&self.shared, |conn, _| {
            let noted = schema::load_meta(conn, Meta::Time)?;
            Ok(noted.and_then(|bytes| bytes.try_into().ok()).map(|bytes| Wall(u64::from_le_bytes(bytes))))
        }))
    }

    fn note_time(&self, at: Wall) -> Pending<'_, ()> {
        Box::pin(self.ask(1, move |batch| schema::save_meta(batch.conn, Meta::Time, &at.0.to_le_bytes())))
    }

    fn probe(&self) -> Pending<'_, ()> {
        Box::pin(self.ask(1, |batch| schema::save_meta(batch.conn, Meta::Probe, &[])))
    }

    fn inbox_tail(&self) -> watch::Receiver<u64> {
        self.shared.inbox_tail.subscribe()
    }

    fn inbox_len(&self) -> u64 {
        self.shared.inbox_len()
    }

    fn healthy(&self) -> bool {
        self.shared.healthy()
    }

    fn failed(&self) -> bool {
        self.shared.check().is_err()
    }
}

impl Registry for Sqlite {
    fn peer_id(&self, name: String) -> Pending<'_, PeerId> {
        Box::pin(async move {
            self.shared.check()?;
            let known = self.shared.directory().ids.get(&*name).copied();
            match known {
                Some(id) => Ok(id),
                None => self.ask(1, move |batch| batch.peer_id(&name)).await,
            }
        })
    }

    fn names(&self) -> Pending<'_, Vec<(PeerId, String)>> {
        Box::pin(async move {
            self.shared.check()?;
            Ok(self.shared.directory().names.iter().map(|(id, name)| (*id, name.to_string())).collect())
        })
    }

    fn added_peers(&self) -> Pending<'_, Vec<(String, String)>> {
        Box::pin(async move {
            self.shared.check()?;
            Ok(self.shared.directory().added.clone().into_iter().collect())
        })
    }

    fn add_peer(&self, name: String, definition: String) -> Pending<'_, bool> {
        Box::pin(self.ask(1, move |batch| batch.add_peer(&name, &definition)))
    }

    fn remove_peer(&self, name: String) -> Pending<'_, bool> {
        Box::pin(self.ask(1, move |batch| batch.remove_peer(&name)))
    }
}

impl Sqlite {
    /// Answers from RAM what it can; a thread that may block is asked only when a filter says "maybe".
    async fn look_up(&self, keys: Vec<Key>) -> Result<Vec<Option<Remembered>>, Error> {
        self.shared.check()?;
        let mut looks = self.shared.seen.look(&keys);
        let (mut asked, mut places) = (Vec::new(), Vec::new());
        for (place, (look, key)) in looks.iter_mut().zip(keys).enumerate() {
            if matches!(look, Look::Ask(_)) {
                asked.push((std::mem::replace(look, Look::Unknown), key));
                places.push(place);
            }
        }
        if !asked.is_empty() {
            let answers = reader::read(&self.shared, move |conn, _| {
                asked.into_iter().map(|(look, key)| look.resolve(conn, key)).collect::<Result<Vec<_>, _>>()
            })
            .await?;
            for (place, answer) in places.into_iter().zip(answers) {
                if let (Some(look), Some(answer)) = (looks.get_mut(place), answer) {
                    *look = Look::Known(answer);
                }
            }
        }
        Ok(looks
            .into_iter()
            .map(|look| match look {
                Look::Known(remembered) => Some(remembered),
                Look::Unknown | Look::Ask(_) => None,
            })
            .collect())
    }
}
