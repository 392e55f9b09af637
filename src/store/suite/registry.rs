//! Who the peers are.

use super::*;

pub(super) async fn a_name_has_one_number_for_ever(mut fixture: impl Fixture) {
    let (a, b) = (peer(&fixture, "a").await, peer(&fixture, "b").await);
    assert_ne!(a, b);
    fixture.reopen().await;
    let c = peer(&fixture, "c").await;
    assert_eq!((peer(&fixture, "a").await, peer(&fixture, "b").await), (a, b));
    let names = fixture.store().names().await.unwrap();
    assert_eq!(names, [(a, "a".to_owned()), (b, "b".to_owned()), (c, "c".to_owned())]);
}

pub(super) async fn definitions_are_added_once_and_removed_once(mut fixture: impl Fixture) {
    let add = |name: &str, definition: &str| (name.to_owned(), definition.to_owned());
    for ((name, definition), is_new) in
        [(add("b", "url = 1"), true), (add("a", ""), true), (add("b", "url = 2"), false)]
    {
        assert_eq!(fixture.store().add_peer(name, definition).await, Ok(is_new));
    }
    fixture.reopen().await;
    assert_eq!(fixture.store().added_peers().await.unwrap(), [add("a", ""), add("b", "url = 1")]);
    assert_eq!(fixture.store().remove_peer("b".to_owned()).await, Ok(true));
    assert_eq!(fixture.store().remove_peer("b".to_owned()).await, Ok(false));
    fixture.reopen().await;
    assert_eq!(fixture.store().added_peers().await.unwrap(), [add("a", "")]);
    assert_eq!(fixture.store().add_peer("b".to_owned(), "url = 3".to_owned()).await, Ok(true));
}

pub(super) async fn the_time_that_was_noted_last_is_kept(mut fixture: impl Fixture) {
    assert_eq!(fixture.store().last_time().await.unwrap(), None);
    for time in [Wall(2_000), Wall(1_000), Wall(u64::MAX)] {
        fixture.store().note_time(time).await.unwrap();
        assert_eq!(fixture.store().last_time().await.unwrap(), Some(time));
        fixture.reopen().await;
        assert_eq!(fixture.store().last_time().await.unwrap(), Some(time), "the newest, and not the latest");
    }
}
