//! A place for one thing, from one giver to one taker: what a channel of one is, in a tenth of its memory. Every idle
//! connection has one.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The end that gives. When it is dropped, the taker learns of it once it has taken what was given before.
#[derive(Debug)]
pub(super) struct Giver<T>(Arc<Mutex<Place<T>>>);

/// The end that takes.
#[derive(Debug)]
pub(super) struct Taker<T>(Arc<Mutex<Place<T>>>);

#[derive(Debug)]
struct Place<T> {
    thing: Option<T>,
    /// The other end is gone, and nothing will come any more.
    closed: bool,
    waiting: Option<Waker>,
}

/// An empty place.
pub(super) fn place<T>() -> (Giver<T>, Taker<T>) {
    let place = Arc::new(Mutex::new(Place { thing: None, closed: false, waiting: None }));
    (Giver(Arc::clone(&place)), Taker(place))
}

impl<T> Giver<T> {
    /// Puts it there. It is lost if the place is taken, or the taker is gone.
    pub(super) fn give(&self, thing: T) {
        let waiting = {
            let mut place = locked(&self.0);
            if place.closed || place.thing.is_some() {
                return;
            }
            place.thing = Some(thing);
            place.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut place = locked(&self.0);
            place.closed = true;
            place.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl<T> Taker<T> {
    /// What was given, once it is there; `None` when nothing will come any more. Cancel-safe.
    pub(super) async fn take(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut place = locked(&self.0);
            if let Some(thing) = place.thing.take() {
                return Poll::Ready(Some(thing));
            }
            if place.closed {
                return Poll::Ready(None);
            }
            match &mut place.waiting {
                Some(waiting) => waiting.clone_from(cx.waker()),
                None => place.waiting = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let thing = {
            let mut place = locked(&self.0);
            place.closed = true;
            place.waiting = None;
            place.thing.take()
        };
        // Not under the lock: whatever it holds may have something to do when it goes.
        drop(thing);
    }
}

fn locked<T>(place: &Mutex<Place<T>>) -> MutexGuard<'_, Place<T>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_given_is_taken_also_after_the_giver_has_gone() {
        let (giver, mut taker) = place();
        let waiting = tokio::spawn(async move { (taker.take().await, taker.take().await, taker.take().await) });
        tokio::task::yield_now().await;
        giver.give(1);
        tokio::task::yield_now().await;
        giver.give(2);
        drop(giver);
        assert_eq!(waiting.await.unwrap(), (Some(1), Some(2), None));
    }

    #[test]
    fn there_is_room_for_one() {
        let (giver, mut taker) = place();
        giver.give(1);
        giver.give(2);
        assert_eq!(taker.take().now_or_never(), Some(Some(1)));
        assert_eq!(taker.take().now_or_never(), None);
        giver.give(3);
        assert_eq!(taker.take().now_or_never(), Some(Some(3)));
    }

    #[test]
    fn nothing_is_kept_for_a_taker_that_is_gone() {
        let (giver, taker) = place();
        let thing = Arc::new(());
        giver.give(Arc::clone(&thing));
        drop(taker);
        giver.give(Arc::clone(&thing));
        assert_eq!(Arc::strong_count(&thing), 1);
    }
}
