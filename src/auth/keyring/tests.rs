//! The life of keys: what a rotation does, what waits for what, and what a crash leaves behind.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::set::Algorithm;

const WAIT: Duration = Duration::from_secs(1200);
const NOW: Wall = Wall(1_795_000_000_000);

struct Site(tempfile::TempDir);

impl Site {
    /// With these keys in its directory.
    fn new(kids: &[&str]) -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        kids.iter().for_each(|kid| site.add(kid));
        site
    }

    fn add(&self, kid: &str) {
        let (_, pem) = SigningKey::generate(Algorithm::Es256, kid).unwrap();
        write(&self.file(kid), pem.as_bytes(), 0o600);
    }

    fn file(&self, kid: &str) -> PathBuf {
        self.0.path().join(format!("{kid}.pem"))
    }

    /// As a daemon starts.
    fn open(&self, active: Option<&str>) -> Arc<KeyRing> {
        self.try_open(active).unwrap()
    }

    fn try_open(&self, active: Option<&str>) -> Result<Arc<KeyRing>, Error> {
        KeyRing::open(self.0.path(), active, WAIT, NOW)
    }
}

fn write(path: &Path, content: &[u8], mode: u32) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn new_key() -> Rotate {
    Rotate::Named(None, None)
}

fn to(kid: &str) -> Rotate {
    Rotate::Named(Some(kid.to_owned()), None)
}

/// `kid state` of each key.
fn states(ring: &KeyRing) -> Vec<String> {
    ring.statuses().iter().map(|key| format!("{} {}", key.kid, key.state)).collect()
}

fn signs(ring: &KeyRing) -> String {
    ring.signer().key.kid().to_owned()
}

/// The kids in the JWK Set, which has no private part.
fn published(ring: &KeyRing) -> Vec<String> {
    let jwks: Value = serde_json::from_slice(&ring.jwks()).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    assert!(keys.iter().all(|key| key.get("d").is_none()), "{jwks}");
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// What the transceiver finds out: nobody, or these peers, have unsettled SETs before these places.
fn mark(ring: &KeyRing, marks: &[(&str, u64)]) {
    let marks = marks.iter().map(|(peer, mark)| ((*peer).to_owned(), *mark)).collect();
    ring.mark(&ring.unmarked(), &marks).unwrap();
}

fn oldest(ring: &KeyRing, peer: &str, oldest: Option<u64>) {
    ring.settled(&BTreeMap::from([(peer.to_owned(), oldest)]));
}

#[test]
fn a_new_key_is_published_at_once_and_signs_after_the_wait() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    let rotated = ring.rotate(new_key(), false, NOW).unwrap();
    assert_eq!((rotated.kid.as_str(), rotated.from.as_str(), rotated.left), ("acme-2", "acme-1", Some(WAIT)));
    assert_eq!(published(&ring), ["acme-1", "acme-2"]);
    ring.advance(WAIT - Duration::from_millis(1), NOW);
    assert_eq!(signs(&ring), "acme-1");
    ring.advance(Duration::from_millis(1), NOW);
    assert_eq!(signs(&ring), "acme-2");
    assert_eq!(states(&ring), ["acme-1 retiring", "acme-2 active"]);
    assert_eq!(published(&ring), ["acme-1", "acme-2"], "what it signed is not known to be settled");
}

#[test]
fn an_old_key_stays_until_its_last_set_is_settled_and_caches_have_expired() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    ring.rotate(new_key(), true, NOW).unwrap();
    assert_eq!(signs(&ring), "acme-2");
    ring.advance(10 * WAIT, NOW);
    mark(&ring, &[("globex", 8), ("initech", 3)]);
    ring.advance(10 * WAIT, NOW);
    oldest(&ring, "globex", Some(7));
    oldest(&ring, "initech", None);
    ring.advance(10 * WAIT, NOW);
    assert_eq!(ring.awaited(), ["globex".to_owned()].into(), "its SET at 7 is before the mark");
    assert!(ring.is_published("acme-1"));
    oldest(&ring, "globex", Some(8));
    assert!(ring.awaited().is_empty(), "the one at 8 was signed with the new key");
    ring.advance(WAIT - Duration::from_millis(1), NOW);
    assert!(ring.is_published("acme-1") && site.file("acme-1").exists());
    ring.advance(Duration::from_millis(1), NOW);
    assert_eq!(
        (published(&ring), states(&ring)),
        (vec!["acme-2".into()], vec!["acme-2 active".into(), "acme-1 retired".into()])
    );
    assert!(!site.file("acme-1").exists(), "a private key that never signs again is only a risk");
    assert!(!ring.is_waiting());
}

#[test]
fn nobody_takes_the_end_of_a_queue_for_known_while_something_signed_is_on_its_way_there() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    let signer = ring.signer();
    ring.rotate(new_key(), true, NOW).unwrap();
    assert!(ring.unmarked().is_empty(), "somebody is still submitting");
    drop(signer);
    assert_eq!(ring.unmarked().len(), 1);
}

#[test]
fn what_is_queued_again_keeps_its_key() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    ring.rotate(new_key(), true, NOW).unwrap();
    let unmarked = ring.unmarked();
    let hold = ring.hold("acme-1").unwrap().expect("it is published");
    ring.mark(&unmarked, &BTreeMap::new()).unwrap();
    assert!(ring.unmarked().is_empty() && !states(&ring).is_empty());
    ring.advance(10 * WAIT, NOW);
    assert!(ring.is_published("acme-1"), "marks that were taken before the hold do not count");
    drop(hold);
    // A dead letter at 9 went back to the queue meanwhile.
    mark(&ring, &[("globex", 10)]);
    oldest(&ring, "globex", Some(9));
    ring.advance(10 * WAIT, NOW);
    assert!(ring.is_published("acme-1"));
    let again = site.open(None);
    assert_eq!(again.awaited(), ["globex".to_owned()].into(), "a restart knows");
    oldest(&ring, "globex", None);
    ring.advance(WAIT, NOW);
    assert!(!ring.is_published("acme-1"));
    assert!(ring.hold("acme-1").unwrap().is_none(), "too late");
    assert!(ring.hold("nobody").unwrap().is_none());
}

#[test]
fn a_hold_on_the_active_key_outlives_a_rotation() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    let hold = ring.hold("acme-1").unwrap().unwrap();
    ring.rotate(new_key(), true, NOW).unwrap();
    assert!(ring.unmarked().is_empty());
    drop(hold);
    assert_eq!(ring.unmarked().len(), 1);
}

#[test]
fn a_hold_outlives_that_its_key_signs_for_a_while() {
    let site = Site::new(&["acme-1", "acme-2"]);
    let ring = site.open(Some("acme-1"));
    let hold = ring.hold("acme-2").unwrap().expect("it is published, and may have signed before");
    ring.rotate(to("acme-2"), true, NOW).unwrap();
    ring.rotate(new_key(), true, NOW).unwrap();
    let unmarked = |ring: &KeyRing| ring.unmarked().into_iter().map(|one| one.kid).collect::<Vec<_>>();
    assert_eq!(unmarked(&ring), ["acme-1"]);
    drop(hold);
    assert_eq!(unmarked(&ring), ["acme-1", "acme-2"]);
}

#[test]
fn a_rotation_goes_on_after_a_crash_at_any_point() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(Some("acme-1"));
    ring.rotate(new_key(), false, NOW).unwrap();
    ring.advance(WAIT / 2, NOW);
    // Killed: nothing is written down at the end.
    let ring = site.open(Some("acme-1"));
    assert_eq!(published(&ring), ["acme-1", "acme-2"]);
    assert_eq!(signs(&ring), "acme-1");
    ring.advance(WAIT / 2, NOW);
    assert_eq!(signs(&ring), "acme-2", "the half that had passed counts");
    // Killed before the queues were asked.
    let ring = site.open(Some("acme-1"));
    assert_eq!(signs(&ring), "acme-2", "keys.active names a key that was rotated away");
    assert_eq!(ring.unmarked().len(), 1);
    mark(&ring, &[("globex", 5)]);
    let ring = site.open(Some("acme-1"));
    assert_eq!((ring.unmarked().len(), ring.awaited().len()), (0, 1));
    oldest(&ring, "globex", None);
    ring.advance(WAIT, NOW);
    assert_eq!(states(&site.open(Some("acme-1"))), ["acme-2 active", "acme-1 retired"]);
}

#[test]
fn a_key_file_that_a_crash_left_behind_is_removed_and_a_namesake_is_not_used() {
    let site = Site::new(&["acme-1"]);
    let pem = std::fs::read(site.file("acme-1")).unwrap();
    let ring = site.open(None);
    ring.rotate(new_key(), true, NOW).unwrap();
    ring.retire("acme-1", true, NOW).unwrap();
    write(&site.file("acme-1"), &pem, 0o600);
    drop(site.open(None));
    assert!(!site.file("acme-1").exists());
    site.add("acme-1");
    assert_eq!(published(&site.open(None)), ["acme-2"]);
    assert!(site.file("acme-1").exists(), "it is somebody else's");
}

#[test]
fn a_new_key_file_without_a_state_is_published_and_does_not_sign() {
    let site = Site::new(&["acme-1"]);
    drop(site.open(Some("acme-1")));
    // A rotation was killed between the two files.
    site.add("acme-2");
    let ring = site.open(Some("acme-1"));
    ring.advance(10 * WAIT, NOW);
    assert_eq!((states(&ring), signs(&ring)), (vec!["acme-1 active".into(), "acme-2 next".into()], "acme-1".into()));
    assert_eq!(ring.rotate(to("acme-2"), false, NOW).unwrap().left, Some(Duration::ZERO), "it was there long enough");
    ring.advance(Duration::ZERO, NOW);
    assert_eq!(signs(&ring), "acme-2");
}

#[test]
fn only_the_owner_may_read_what_is_written() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    ring.rotate(new_key(), false, NOW).unwrap();
    for file in ["acme-2.pem", ROTATION_FILE] {
        let mode = std::fs::metadata(site.0.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let state = std::fs::read_to_string(site.0.path().join(ROTATION_FILE)).unwrap();
    assert!(!state.contains("PRIVATE") && !state.contains("\"d\""), "{state}");
}

#[test]
fn a_directory_that_cannot_be_written_changes_nothing() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    // Not even root renames a file over a directory.
    let state = site.0.path().join(ROTATION_FILE);
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir_all(state.join("x")).unwrap();
    for at_once in [false, true] {
        let refused = ring.rotate(new_key(), at_once, NOW);
        assert!(matches!(refused, Err(Error::Unwritable { .. })), "{refused:?}");
        assert_eq!((states(&ring), signs(&ring)), (vec!["acme-1 active".into()], "acme-1".into()));
        assert_eq!(published(&ring), ["acme-1"]);
        assert!(!site.file("acme-2").exists());
    }
    assert!(
        ring.reread(None, WAIT, NOW).is_ok_and(|changes| changes.is_empty()),
        "a rereading that finds nothing new needs to write nothing"
    );
    std::fs::remove_dir_all(&state).unwrap();
    ring.rotate(new_key(), false, NOW).unwrap();
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir_all(state.join("x")).unwrap();
    ring.advance(WAIT, NOW);
    assert_eq!(signs(&ring), "acme-1", "a switch that cannot be written down does not happen");
    std::fs::remove_dir_all(&state).unwrap();
    ring.advance(Duration::ZERO, NOW);
    assert_eq!(signs(&ring), "acme-2", "and is made up for");
}

#[test]
fn one_rotation_at_a_time_which_can_be_hurried_and_called_off() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    ring.rotate(new_key(), false, NOW).unwrap();
    for other in [new_key(), to("acme-2"), to("acme-9")] {
        assert!(matches!(ring.rotate(other, false, NOW), Err(Error::UnderWay(kid)) if kid == "acme-2"));
    }
    assert!(matches!(ring.rotate(to("acme-9"), true, NOW), Err(Error::UnderWay(_))));
    assert_eq!(ring.retire("acme-2", false, NOW).unwrap(), Retire::Done, "it never signed");
    assert!(!site.file("acme-2").exists());
    assert_eq!(ring.rotate(new_key(), false, NOW).unwrap().kid, "acme-3", "no name comes twice");
    assert_eq!(ring.rotate(new_key(), true, NOW).unwrap().kid, "acme-3", "hurried");
    assert_eq!(signs(&ring), "acme-3");
    assert!(matches!(ring.rotate(to("acme-1"), false, NOW), Err(Error::RotatedAway(_))));
    assert!(matches!(ring.rotate(to("acme-3"), false, NOW), Err(Error::Signs(_))));
    assert!(matches!(ring.rotate(to("../x"), false, NOW), Err(Error::Name(_))));
    let other = Rotate::Named(Some("acme-2".to_owned()), Some(Algorithm::EdDsa));
    assert!(matches!(ring.rotate(other, false, NOW), Err(Error::Taken(_))));
}

#[test]
fn a_key_that_signs_or_is_needed_is_not_taken_out() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    assert!(matches!(ring.retire("acme-1", true, NOW), Err(Error::Signs(_))));
    assert!(matches!(ring.retire("acme-7", true, NOW), Err(Error::NoSuchKey(_))));
    ring.rotate(new_key(), true, NOW).unwrap();
    assert!(matches!(ring.retire("acme-1", false, NOW), Err(Error::InUse { peers: None, .. })));
    mark(&ring, &[("globex", 4), ("initech", 2)]);
    let error = ring.retire("acme-1", false, NOW).unwrap_err().to_string();
    assert!(error.contains("2 peers still have some: globex, initech"), "{error}");
    oldest(&ring, "globex", None);
    oldest(&ring, "initech", Some(2));
    assert_eq!(ring.retire("acme-1", false, NOW).unwrap(), Retire::Done, "nothing but caches is left to wait for");
    assert_eq!(ring.retire("acme-1", false, NOW).unwrap(), Retire::Done, "it is so already");
    ring.rotate(new_key(), true, NOW).unwrap();
    assert_eq!(ring.retire("acme-2", true, NOW).unwrap(), Retire::Done, "by order");
    assert_eq!(published(&ring), ["acme-3"]);
}

/// From before there were rotations: several files, one named in `keys.active`, and nobody knows what the others signed.
#[test]
fn a_key_of_unknown_past_retires_only_when_the_queues_of_now_are_settled() {
    let site = Site::new(&["acme-1", "acme-2"]);
    assert!(matches!(site.try_open(None), Err(Error::Undecided(Undecided::Several))));
    let ring = site.open(Some("acme-2"));
    assert_eq!((signs(&ring), published(&ring).len()), ("acme-2".into(), 2));
    assert_eq!(ring.retire("acme-1", false, NOW).unwrap(), Retire::Begun);
    mark(&ring, &[("globex", 4)]);
    assert!(matches!(ring.retire("acme-1", false, NOW), Err(Error::InUse { .. })));
    assert!(ring.is_published("acme-1"));
    oldest(&ring, "globex", None);
    ring.advance(WAIT, NOW);
    assert_eq!(published(&ring), ["acme-2"]);
}

#[test]
fn naming_another_key_in_the_configuration_is_a_rotation_that_waits() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(Some("acme-1"));
    site.add("acme-2");
    let changes = ring.reread(Some("acme-2"), WAIT, NOW).unwrap();
    assert_eq!(changes, ["key acme-2: new, next"]);
    assert_eq!((signs(&ring), published(&ring).len()), ("acme-1".into(), 2));
    let ring = site.open(Some("acme-2"));
    assert_eq!(signs(&ring), "acme-1", "a restart is no reason to surprise partners");
    ring.advance(WAIT, NOW);
    assert_eq!(signs(&ring), "acme-2");
    assert_eq!(states(&ring), ["acme-1 retiring", "acme-2 active"]);
    assert!(ring.reread(Some("acme-2"), WAIT, NOW).unwrap().is_empty());
    assert!(ring.reread(Some("acme-1"), WAIT, NOW).unwrap().is_empty(), "rotated away: it does not come back");
    assert_eq!(signs(&ring), "acme-2");
    site.add("acme-3");
    ring.reread(Some("acme-3"), Duration::ZERO, NOW).unwrap();
    assert_eq!(signs(&ring), "acme-3", "without a wait it signs at once");
}

#[test]
fn rereading_takes_new_files_drops_gone_ones_and_changes_nothing_when_one_is_bad() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    let signer = ring.signer();
    site.add("spare");
    assert_eq!(ring.reread(Some("acme-1"), WAIT, NOW).unwrap(), ["key spare: new, next"]);
    write(&site.file("bad"), b"no key", 0o600);
    assert!(ring.reread(Some("acme-1"), WAIT, NOW).is_err());
    assert_eq!(published(&ring), ["acme-1", "spare"]);
    std::fs::remove_file(site.file("bad")).unwrap();
    std::fs::remove_file(site.file("spare")).unwrap();
    assert_eq!(ring.reread(Some("acme-1"), WAIT, NOW).unwrap(), ["key spare: gone"]);
    assert!(matches!(ring.reread(Some("spare"), WAIT, NOW), Err(Error::Undecided(Undecided::NoSuchKey(_)))));
    ring.rotate(new_key(), true, NOW).unwrap();
    assert!(ring.unmarked().is_empty(), "a signer from before the rereading is still known to be out");
    drop(signer);
    assert_eq!(ring.unmarked().len(), 1);
}

/// An operator who removes private files by hand must not make SETs unverifiable that are under way.
#[test]
fn a_retiring_key_is_published_even_when_its_private_file_is_gone() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    ring.rotate(new_key(), true, NOW).unwrap();
    std::fs::remove_file(site.file("acme-1")).unwrap();
    assert_eq!(published(&site.open(None)), ["acme-1", "acme-2"]);
    std::fs::remove_file(site.file("acme-2")).unwrap();
    assert!(matches!(site.try_open(None), Err(Error::Undecided(Undecided::NoKey))));
    site.add("acme-3");
    let ring = site.open(None);
    assert_eq!((signs(&ring), published(&ring).len()), ("acme-3".into(), 3));
}

#[test]
fn a_damaged_state_is_told_from_none() {
    let site = Site::new(&["acme-1"]);
    write(&site.0.path().join(ROTATION_FILE), b"{\"keys\": {\"acme-1\"", 0o600);
    let error = site.try_open(None).err().expect("it is damaged").to_string();
    assert!(error.contains(ROTATION_FILE) && error.contains("damaged"), "{error}");
}

#[test]
fn a_key_or_a_state_that_others_can_get_at_is_not_used() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    let pem = std::fs::read(site.file("acme-1")).unwrap();
    write(&site.file("acme-2"), &pem, 0o644);
    assert!(matches!(ring.rotate(to("acme-2"), false, NOW), Err(Error::Exposed(_))));
    assert!(matches!(ring.reread(None, WAIT, NOW), Err(Error::Exposed(_))));
    assert!(matches!(site.try_open(None), Err(Error::Exposed(_))));
    std::fs::remove_file(site.file("acme-2")).unwrap();
    let state = site.0.path().join(ROTATION_FILE);
    write(&state, &std::fs::read(&state).unwrap(), 0o666);
    assert!(site.try_open(None).is_err(), "whoever can write it could have a key of theirs published as ours");
}

#[test]
fn keys_that_somebody_else_keeps_rotate_in_memory() {
    let key = |kid: &str| SigningKey::generate(Algorithm::EdDsa, kid).unwrap().0;
    let ring = KeyRing::of(vec![key("b"), key("a")], None, NOW).unwrap();
    assert_eq!((signs(&ring), published(&ring).len()), ("b".into(), 2));
    let rotated = ring.rotate(Rotate::Given(key("c")), true, NOW).unwrap();
    assert_eq!((rotated.kid.as_str(), rotated.algorithm.as_str(), rotated.left), ("c", "EdDSA", None));
    mark(&ring, &[]);
    ring.advance(PUBLISH_WAIT, NOW);
    assert_eq!(published(&ring), ["a", "c"]);
    let site = Site::new(&["acme-1"]);
    assert!(matches!(site.open(None).rotate(Rotate::Given(key("c")), true, NOW), Err(Error::KeptElsewhere)));
}

#[test]
fn a_new_key_is_of_the_kind_of_the_one_before_unless_told_otherwise() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    let eddsa = Rotate::Named(Some("other".to_owned()), Some(Algorithm::EdDsa));
    assert_eq!(ring.rotate(eddsa, true, NOW).unwrap().algorithm, "EdDSA");
    assert_eq!(ring.rotate(new_key(), true, NOW).unwrap().algorithm, "EdDSA");
}

#[test]
fn fetches_are_counted_from_when_a_key_is_published() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    ring.note_fetch(NOW);
    ring.rotate(new_key(), false, NOW).unwrap();
    let seen =
        |ring: &KeyRing| ring.statuses().into_iter().map(|key| (key.fetches, key.fetched_at)).collect::<Vec<_>>();
    assert_eq!(seen(&ring), [(None, None), (Some(0), None)]);
    ring.note_fetch(Wall(7));
    ring.note_fetch(Wall(8));
    assert_eq!(seen(&ring), [(None, None), (Some(2), Some(Wall(8)))]);
}

/// Its public half would leave `/jwks.json`, and nobody could verify what is queued.
#[test]
fn another_key_under_the_name_of_one_that_signed_is_refused_at_reload_and_start() {
    for state in ["active", "retiring", "next that may have signed"] {
        let site = Site::new(&["acme-1", "acme-2"]);
        let ring = site.open(Some("acme-1"));
        let kid = if state == "next that may have signed" { "acme-2" } else { "acme-1" };
        if state == "retiring" {
            ring.rotate(to("acme-2"), true, NOW).unwrap();
        }
        let (before, pem) = (ring.jwks(), std::fs::read(site.file(kid)).unwrap());
        site.add(kid);
        let refusals = [ring.reread(Some("acme-1"), WAIT, NOW).err(), site.try_open(Some("acme-1")).err()];
        for refused in refusals {
            let text = refused.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(matches!(refused, Some(Error::Replaced { .. })), "{state}: {text}");
            assert!(text.contains(&format!("{kid}.pem")) && text.contains("key rotate --kid NAME"), "{state}: {text}");
        }
        assert_eq!(ring.jwks(), before, "{state}");
        write(&site.file(kid), &pem, 0o600);
        assert_eq!(ring.reread(Some("acme-1"), WAIT, NOW).unwrap(), Vec::<String>::new(), "{state}");
        assert_eq!(site.open(Some("acme-1")).jwks(), before, "{state}");
    }
}

#[test]
fn a_key_that_never_signed_may_be_replaced_and_waits_anew() {
    let site = Site::new(&["acme-1"]);
    let ring = site.open(None);
    site.add("acme-2");
    ring.reread(Some("acme-2"), WAIT, NOW).unwrap();
    ring.advance(WAIT / 2, NOW);
    let before = ring.jwks();
    site.add("acme-2");
    ring.reread(Some("acme-2"), WAIT, NOW).unwrap();
    assert_ne!(ring.jwks(), before);
    ring.advance(WAIT / 2, NOW);
    assert_eq!(signs(&ring), "acme-1", "no partner need have the new one");
    ring.advance(WAIT / 2, NOW);
    assert_eq!(signs(&ring), "acme-2");
}
