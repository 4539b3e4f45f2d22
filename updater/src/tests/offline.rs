//! Bundles, and firmware that cannot try a version.

use std::fs;

use berth_fetch::Settings;
use berth_provision::UpdatePolicy;
use berth_slots::state::{Running, State as SlotState};

use super::publisher::{DAY_S, NOW, Publisher, content};
use super::server::Server;
use super::world::{Updater, World, in_an_hour};
use crate::looking::Next;
use crate::report::State;

/// A machine with version 1 and no server, and a publisher of version 2.
fn world() -> (World, Publisher) {
    let (one, two) = (content(1), content(2));
    let mut publisher = Publisher::new();
    publisher.publish("edge", &two, &[&one]);
    (World::running(&one, &publisher), publisher)
}

fn updater(world: &World) -> Updater {
    world.role(Settings::default())
}

fn is_whole_image(path: &str) -> bool {
    path.starts_with("images/")
}

#[test]
fn a_bundle_is_as_good_as_a_server() {
    let (mut world, publisher) = world();
    world.plug("stick", &publisher.bundle(is_whole_image));
    let mut updater = updater(&world);
    assert_eq!(updater.look(), Ok(Next::Restart));
    assert!(matches!(updater.slots.state(), SlotState::Armed(_)));
    assert!(updater.role.came_by_bundle("2"));
}

#[test]
fn without_a_bundle_there_is_nothing_to_do_and_it_is_said_once() {
    let (mut world, _) = world();
    world.plug("photos", &[7; 1 << 20]);
    world.plug("small", b"x");
    world.disks.push(world.at("gone"));
    let mut updater = updater(&world);
    for _ in 0..3 {
        assert_eq!(updater.look(), Ok(Next::Look));
    }
    assert_eq!(updater.said().len(), 1);
    assert_eq!(updater.last().0, State::Waiting);
}

#[test]
fn every_kind_of_wrong_bundle_is_refused_with_its_reason_and_complained_of_once() {
    let (_, publisher) = world();
    let good = publisher.bundle(is_whole_image);
    let place = |word: &[u8]| {
        let mut words = good.windows(word.len());
        words.rposition(|bytes| bytes == word).expect("the word")
    };
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bad
    };
    let mut newer = good.clone();
    newer[13] = b'2';
    let mut other = Publisher::new();
    other.publish("edge", &content(2), &[]);
    for (bundle, words) in [
        (flipped(place(b"\"expires\"") + 12), "the metadata of"),
        (
            flipped(place(b"metadata/timestamp.json")),
            "it is damaged: at byte",
        ),
        (
            newer,
            "it is a bundle of a format that this machine is too old for",
        ),
        (good[..good.len() / 2].to_vec(), "it is cut off"),
        (other.bundle(|_| false), "valid signatures"),
        (
            publisher.bundle(|path| path.starts_with("targets/")),
            "has nothing for edge/cloud/x86_64",
        ),
        (
            publisher.bundle(|path| path.starts_with("deltas/") || is_whole_image(path)),
            "has no patch that gives all of the new version",
        ),
    ] {
        let (mut world, _) = world();
        world.plug("stick", &bundle);
        let mut updater = world.role(Settings::default());
        updater.role.trust = publisher.trust();
        for _ in 0..3 {
            assert_eq!(updater.look(), Ok(Next::Look), "{words}");
        }
        let said = updater.said();
        let troubles = said.iter().filter(|one| one.state == State::Trouble);
        let troubles: Vec<&str> = troubles.map(|one| one.sentence.as_str()).collect();
        assert!(
            matches!(troubles.as_slice(), [one, ..] if one.starts_with("the bundle on ") && one.contains(words)),
            "{words}: {troubles:?}"
        );
        assert!(!matches!(
            updater.slots.state(),
            SlotState::Staged(_) | SlotState::Armed(_)
        ));
    }
}

#[test]
fn a_bundle_that_has_expired_is_complained_of_once_and_forgotten_when_it_is_gone() {
    let (mut world, publisher) = world();
    world.plug("stick", &publisher.bundle(is_whole_image));
    world.now.set(NOW + 366 * DAY_S);
    let mut updater = updater(&world);
    for _ in 0..3 {
        assert_eq!(updater.look(), Ok(Next::Look));
        world.now.set(world.now.get() + 3600);
    }
    let said = updater.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].state, State::Trouble);
    updater.role.disks = Box::new(Vec::new);
    assert_eq!(updater.look(), Ok(Next::Look));
    assert_eq!(updater.last().0, State::Waiting);
}

#[test]
fn a_flipped_byte_of_a_patch_never_gets_into_a_slot() {
    let (mut world, publisher) = world();
    let bundle = publisher.bundle(|path| is_whole_image(path) || path.starts_with("metadata/x"));
    let mut bad = bundle.clone();
    // Every patch is hit: each entry below deltas/ in its middle.
    let index = berth_release::bundle::Index::read(bundle.len() as u64, |at, buffer| {
        buffer.copy_from_slice(&bundle[at as usize..][..buffer.len()]);
        Ok(())
    });
    for (name, range) in index.expect("an index").files() {
        if name.starts_with("deltas/") {
            bad[((range.start + range.end) / 2) as usize] ^= 1;
        }
    }
    world.plug("stick", &bad);
    let mut updater = updater(&world);
    assert_eq!(updater.look(), Ok(Next::Look));
    let (state, sentence) = updater.last();
    assert_eq!(state, State::Trouble);
    assert!(sentence.contains("no patch that gives all"), "{sentence}");
    assert!(matches!(updater.slots.state(), SlotState::Staging(_)));
}

#[test]
fn a_stick_that_stays_is_no_reason_to_do_anything_again() {
    let (one, two) = (content(1), content(2));
    let mut publisher = Publisher::new();
    publisher.publish("edge", &two, &[&one]);
    let mut world = World::running(&two, &publisher);
    world.plug("stick", &publisher.bundle(is_whole_image));
    let mut updater = updater(&world);
    for _ in 0..3 {
        assert_eq!(updater.look(), Ok(Next::Look));
    }
    assert_eq!(updater.said().len(), 1);
    let newest = (State::Current, "version 2 is the newest".to_owned());
    assert_eq!(updater.last(), newest);
    assert_eq!(updater.slots.state(), &SlotState::Empty);
}

#[test]
fn a_stick_may_go_before_the_window_opens() {
    let (mut world, publisher) = world();
    world.update.window = Some(in_an_hour());
    world.plug("stick", &publisher.bundle(is_whole_image));
    let mut before = updater(&world);
    let next = before.look().expect("a look");
    assert!(
        matches!(next, Next::Within(ms) if ms <= 3_600_000),
        "{next:?}"
    );
    world.disks.clear();
    world.now.set(NOW + 3600);
    // With a server that is not there, too.
    for url in [None, Some("http://127.0.0.1:9/edge".to_owned())] {
        world.update.url = url;
        let mut later = updater(&world);
        assert_eq!(later.look(), Ok(Next::Restart));
    }
}

#[test]
fn an_older_version_on_a_stick_is_not_taken() {
    let (one, two) = (content(1), content(2));
    let mut publisher = Publisher::new();
    publisher.publish("edge", &one, &[]);
    let mut world = World::running(&two, &publisher);
    world.plug("stick", &publisher.bundle(|_| false));
    let mut updater = updater(&world);
    assert_eq!(updater.look(), Ok(Next::Look));
    let (state, sentence) = updater.last();
    assert_eq!(state, State::Waiting);
    assert!(
        sentence.contains("version 1 is older than version 2"),
        "{sentence}"
    );
}

#[test]
fn firmware_without_variables_names_the_key_that_does_without_a_trial() {
    let (mut world, publisher) = world();
    world.variables = false;
    world.plug("stick", &publisher.bundle(is_whole_image));
    let mut updater = updater(&world);
    assert_eq!(updater.look(), Ok(Next::Look));
    let (state, sentence) = updater.last();
    assert_eq!(state, State::Trouble);
    assert!(
        sentence.contains("without_trial = true in [update]"),
        "{sentence}"
    );
    assert!(matches!(updater.slots.state(), SlotState::Staged(_)));
}

#[test]
fn without_a_trial_a_verified_version_is_committed_and_that_is_said() {
    let (mut world, publisher) = world();
    world.variables = false;
    world.update.without_trial = true;
    world.plug("stick", &publisher.bundle(is_whole_image));
    let mut first = updater(&world);
    assert_eq!(first.look(), Ok(Next::Restart));
    let (state, sentence) = first.last();
    assert_eq!(state, State::Staged);
    assert!(sentence.contains("runs it without a trial"), "{sentence}");
    assert_eq!(first.slots.running(), Running::Other);
    drop(first);
    // The updater's process may start anew before the machine does.
    let mut again = updater(&world);
    assert_eq!(again.look(), Ok(Next::Restart));
    assert!(again.last().1.contains("runs it without a trial"));
}

/// The request of a trial is still there after the restart.
#[test]
fn firmware_that_ignores_the_request_is_treated_like_firmware_without_variables() {
    let (mut world, publisher) = world();
    world.plug("stick", &publisher.bundle(is_whole_image));
    assert_eq!(updater(&world).look(), Ok(Next::Restart));
    let mut world = world.restarted();
    let mut refuses = updater(&world);
    assert_eq!(refuses.look(), Ok(Next::Look));
    let (state, sentence) = refuses.last();
    assert_eq!(state, State::Trouble);
    assert!(
        sentence.contains("(BootNext)") && sentence.contains("without_trial = true"),
        "{sentence}"
    );
    drop(refuses);
    world.update.without_trial = true;
    let mut commits = updater(&world);
    assert_eq!(commits.look(), Ok(Next::Restart));
    assert!(commits.last().1.contains("runs it without a trial"));
    assert_eq!(commits.slots.running(), Running::Other);
}

#[test]
fn a_bundle_that_cannot_be_used_is_no_reason_not_to_ask_the_server() {
    let (mut world, publisher) = world();
    let server = Server::start(&publisher.files);
    world.update.url = Some(server.url());
    world.plug("stick", &Publisher::new().bundle(|_| false));
    let mut updater = updater(&world);
    assert_eq!(updater.look(), Ok(Next::Restart));
    let states: Vec<State> = updater.said().iter().map(|one| one.state).collect();
    assert_eq!(states.first(), Some(&State::Trouble));
    assert_eq!(states.last(), Some(&State::Staged));
    assert!(!updater.role.came_by_bundle("2"));
}

#[test]
fn without_a_trial_nothing_is_committed_before_its_time() {
    let (mut world, publisher) = world();
    world.variables = false;
    world.update.without_trial = true;
    world.update.window = Some(in_an_hour());
    world.plug("stick", &publisher.bundle(is_whole_image));
    let mut role = updater(&world);
    assert!(matches!(role.look(), Ok(Next::Within(_))));
    assert!(matches!(role.slots.state(), SlotState::Staged(_)));
    // Policy "stage" leaves the restart to others, whenever it comes.
    world.update.window = None;
    world.update.policy = UpdatePolicy::Stage;
    let mut role = updater(&world);
    assert_eq!(role.look(), Ok(Next::Look));
    assert!(
        role.last()
            .1
            .contains("the next restart runs it without a trial")
    );
    assert_eq!(role.slots.running(), Running::Other);
}

#[test]
fn what_came_by_a_bundle_is_remembered_until_a_server_gives_something_else() {
    let (mut world, publisher) = world();
    world.update.url = Some("http://127.0.0.1:9/edge".into());
    world.plug("stick", &publisher.bundle(is_whole_image));
    let mut updater = updater(&world);
    assert_eq!(updater.look(), Ok(Next::Restart));
    assert!(updater.role.came_by_bundle("2") && !updater.role.came_by_bundle("1"));
    fs::remove_file(world.state().join("by-bundle")).expect("it is kept there");
    assert!(!updater.role.came_by_bundle("2"));
}
