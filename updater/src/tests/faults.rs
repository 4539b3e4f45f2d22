//! Servers, clocks and disks.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::time::Duration;

use berth_fetch::Settings;
use berth_provision::UpdatePolicy;
use berth_release::{Rollout, Wave};
use berth_slots::state::State as SlotState;

use super::publisher::{Content, NOW, Publisher, content};
use super::server::{Fault, Server};
use super::world::{Updater, World, in_an_hour};
use crate::looking::Next;
use crate::report::State;
use crate::role::settings;

struct Scene {
    publisher: Publisher,
    server: Server,
    world: World,
    two: Content,
}

/// A machine with version 1, and version 2 on a server, with a delta.
fn scene() -> Scene {
    let (one, two) = (content(1), content(2));
    let mut publisher = Publisher::new();
    publisher.publish("edge", &two, &[&one]);
    let server = Server::start(&publisher.files);
    let mut world = World::running(&one, &publisher);
    world.update.url = Some(server.url());
    Scene {
        publisher,
        server,
        world,
        two,
    }
}

impl Scene {
    fn updater(&self) -> Updater {
        self.world.role(Settings::default())
    }
}

fn is_image(path: &str) -> bool {
    path.starts_with("images/") || path.starts_with("deltas/")
}

fn takes_it(updater: &mut Updater, two: &Content) {
    assert_eq!(updater.look(), Ok(Next::Restart));
    assert_eq!(
        updater.slots.state(),
        &SlotState::Armed(staged(updater, two))
    );
}

/// The target that the slots hold, which must be of `two`.
fn staged(updater: &Updater, two: &Content) -> berth_slots::target::Target {
    match updater.slots.state() {
        SlotState::Armed(target) if target.root_hash == two.target.root_hash => target.clone(),
        other => panic!("{other:?}"),
    }
}

/// It fails with `words`, and has staged nothing.
fn fails(updater: &mut Updater, words: &str) {
    let why = updater.look().expect_err("a fault");
    assert!(why.contains(words), "{why}");
    assert!(!matches!(
        updater.slots.state(),
        SlotState::Staged(_) | SlotState::Armed(_)
    ));
}

#[test]
fn a_good_server_gives_the_delta_and_nothing_of_the_image() {
    let scene = scene();
    let mut updater = scene.updater();
    takes_it(&mut updater, &scene.two);
    let asked = scene.server.asked();
    assert!(!asked.iter().any(|path| path.contains("/images/")));
    let (state, sentence) = updater.last();
    assert_eq!(state, State::Staged);
    assert!(
        sentence.ends_with("the machine restarts now and tries it"),
        "{sentence}"
    );
}

#[test]
fn what_breaks_off_is_said_and_goes_on_where_it_was() {
    for (fault, words) in [
        (Fault::Stall, "said nothing for"),
        (Fault::Truncate, "ended the connection after"),
    ] {
        let scene = scene();
        let release = scene.publisher.release("edge");
        let root = &release.root.part;
        let packed = root.packed.expect("a packed root");
        let of_root = [release.deltas[0].root.path(), packed.path(), root.path()];
        scene
            .server
            .fault(move |path| match of_root.iter().any(|one| one == path) {
                true => fault,
                false => Fault::None,
            });
        let impatient = Settings {
            patience: Duration::from_millis(300),
            ..Settings::default()
        };
        let mut updater = match fault {
            Fault::Stall => scene.world.role(impatient),
            _ => scene.updater(),
        };
        fails(&mut updater, words);
        let asked = scene.server.asked().len();
        scene.server.fault(|_| Fault::None);
        if fault == Fault::Stall {
            // A busy computer's own server may take longer than that.
            updater = scene.updater();
        }
        takes_it(&mut updater, &scene.two);
        // The boot image was there already.
        let boot = release.deltas[0].boot.path();
        let again = scene.server.asked().split_off(asked);
        assert!(!again.iter().any(|path| path.ends_with(&boot)), "{again:?}");
    }
}

#[test]
fn a_damaged_delta_is_replaced_by_the_image_and_a_damaged_image_by_nothing() {
    let scene = scene();
    let mut updater = scene.updater();
    scene.server.fault(|path| match path {
        path if path.starts_with("deltas/") => Fault::Flip,
        _ => Fault::None,
    });
    takes_it(&mut updater, &scene.two);

    let scene = self::scene();
    let mut updater = scene.updater();
    scene.server.fault(|path| match is_image(path) {
        true => Fault::Flip,
        false => Fault::None,
    });
    fails(&mut updater, "gives other bytes for images/");
}

#[test]
fn deltas_that_are_gone_are_no_reason_to_fail() {
    let scene = scene();
    scene.server.fault(|path| match path {
        path if path.starts_with("deltas/") => Fault::Gone,
        _ => Fault::None,
    });
    let mut updater = scene.updater();
    takes_it(&mut updater, &scene.two);

    let scene = self::scene();
    scene.server.fault(|path| match is_image(path) {
        true => Fault::Gone,
        false => Fault::None,
    });
    let mut updater = scene.updater();
    fails(&mut updater, "the server has no patch that gives all");
}

/// A mirror that holds a part of a file, or a server that knows nothing of ranges.
#[test]
fn a_patch_of_another_length_is_passed_over_and_an_image_of_another_length_is_named() {
    let scene = scene();
    scene.server.fault(|path| match path {
        path if path.starts_with("deltas/") => Fault::OtherRange,
        _ => Fault::None,
    });
    takes_it(&mut scene.updater(), &scene.two);

    let scene = self::scene();
    scene.server.fault(|path| match is_image(path) {
        true => Fault::OtherRange,
        false => Fault::None,
    });
    fails(&mut scene.updater(), "has another length");
}

/// Nothing reads it as long as the version serves.
#[test]
fn a_rotten_block_of_the_running_version_does_not_get_into_the_next() {
    let scene = scene();
    let release = scene.publisher.release("edge");
    let mut updater = scene.updater();
    let mut options = fs::File::options();
    let disk = options.read(true).write(true).open(scene.world.at("disk"));
    let disk = disk.expect("the disk");
    let root = updater.slots.committed().root.first() * 512;
    let mut block = [0; 4096];
    // What the delta copies, and what it changes.
    for offset in (0..release.root.part.bytes).step_by(256 << 10) {
        disk.read_exact_at(&mut block, root + offset).expect("it");
        block[100] ^= 1;
        disk.write_all_at(&block, root + offset).expect("rot");
    }
    takes_it(&mut updater, &scene.two);
    let asked = scene.server.asked();
    let packed = release.root.part.packed.expect("a packed root").path();
    assert!(
        asked.iter().any(|path| path.ends_with(&packed)),
        "{asked:?}"
    );
}

/// The machine waits for its window; what is published before that is what counts then.
#[test]
fn a_newer_version_takes_the_place_of_one_that_waits_for_its_window() {
    let mut scene = scene();
    scene.world.update.window = Some(in_an_hour());
    let mut updater = scene.updater();
    assert_eq!(updater.look(), Ok(Next::Within(3_600_000)));
    staged(&updater, &scene.two);
    let three = content(3);
    scene.publisher.publish("edge", &three, &[&content(1)]);
    scene.server.replace(&scene.publisher.files);
    scene.world.now.set(NOW + 3600);
    takes_it(&mut updater, &three);
}

#[test]
fn a_newer_version_whose_turn_has_not_come_takes_nothing_away() {
    let mut scene = scene();
    scene.world.update.policy = UpdatePolicy::Stage;
    let mut updater = scene.updater();
    assert_eq!(updater.look(), Ok(Next::Look));
    staged(&updater, &scene.two);
    scene.publisher.rollout.waves = vec![Wave {
        after_s: 0,
        percent: 0,
    }];
    scene.publisher.publish("edge", &content(3), &[&content(1)]);
    scene.server.replace(&scene.publisher.files);
    assert_eq!(updater.look(), Ok(Next::Look));
    staged(&updater, &scene.two);
}

#[test]
fn a_version_that_was_stopped_is_not_tried_by_machines_that_hold_it() {
    let mut scene = scene();
    scene.world.update.window = Some(in_an_hour());
    let mut updater = scene.updater();
    assert_eq!(updater.look(), Ok(Next::Within(3_600_000)));
    let (one, two) = (content(1), scene.two.clone());
    scene.publisher.rollout.waves = vec![Wave {
        after_s: 0,
        percent: 0,
    }];
    scene.publisher.publish("edge", &two, &[&one]);
    scene.server.replace(&scene.publisher.files);
    scene.world.now.set(NOW + 3600);
    assert_eq!(updater.look(), Ok(Next::Look));
    assert!(matches!(updater.slots.state(), SlotState::Staged(_)));
    assert_eq!(updater.last().0, State::Waiting);
    // It goes on: what is there needs not be fetched again.
    let asked = scene.server.asked().len();
    scene.publisher.rollout = Rollout::at_once(0);
    scene.publisher.publish("edge", &two, &[&one]);
    scene.server.replace(&scene.publisher.files);
    takes_it(&mut updater, &two);
    let again = scene.server.asked().split_off(asked);
    assert!(!again.iter().any(|path| is_image(path)), "{again:?}");
}

#[test]
fn metadata_from_before_is_a_rollback() {
    let mut scene = scene();
    let old = scene.publisher.files.clone();
    let one = content(1);
    scene.publisher.publish("edge", &one, &[]);
    scene.server.replace(&scene.publisher.files);
    let mut updater = scene.updater();
    assert_eq!(updater.look(), Ok(Next::Look), "version 1 is what it runs");
    scene.server.replace(&old);
    fails(&mut updater, "refused as a rollback");
}

#[test]
fn a_clock_that_stands_in_1970_is_put_right_by_the_images_date() {
    let scene = scene();
    scene.world.now.set(0);
    takes_it(&mut scene.updater(), &scene.two);
}

#[test]
fn a_clock_in_2100_is_named_as_a_reason() {
    let scene = scene();
    scene.world.now.set(NOW + 74 * 365 * 86_400);
    fails(&mut scene.updater(), "or this machine's clock is wrong");
}

/// Nothing more fits on the state partition.
#[test]
fn a_full_state_partition_is_named_and_changes_nothing() {
    let scene = scene();
    let kept = scene.world.state().join("metadata");
    fs::create_dir(&kept).expect("a directory");
    symlink("/dev/full", kept.join("timestamp.new")).expect("a full file");
    let mut updater = scene.updater();
    fails(&mut updater, "No space left on device");
    let said = updater.look().expect_err("still full");
    assert!(said.contains("timestamp.json cannot be kept"), "{said}");
    fs::remove_file(kept.join("timestamp.new")).expect("room again");
    takes_it(&mut updater, &scene.two);

    // Room for the metadata, and none for the record of what is staged.
    let scene = self::scene();
    let mut updater = scene.updater();
    for copy in ["record.0", "record.1"] {
        let path = scene.world.state().join(copy);
        symlink("/dev/full", path).expect("a full file");
    }
    fails(
        &mut updater,
        "cannot write the record of the update: No space left",
    );
}

#[test]
fn a_proxy_is_asked_for_everything() {
    let mut scene = scene();
    scene.world.update.url = Some("http://updates.invalid/edge".into());
    let proxied = Settings {
        proxy: Some(scene.server.address.to_string()),
        ..Settings::default()
    };
    let mut updater = scene.world.role(proxied);
    takes_it(&mut updater, &scene.two);
    let asked = scene.server.asked();
    let whole = |path: &String| path.starts_with("http://updates.invalid/edge/");
    assert!(asked.iter().all(whole), "{asked:?}");
}

#[test]
fn a_server_without_this_machines_product_is_named() {
    let mut publisher = Publisher::new();
    publisher.publish("other", &content(2), &[]);
    let server = Server::start(&publisher.files);
    let mut world = World::running(&content(1), &publisher);
    world.update.url = Some(server.url());
    let mut updater = world.role(Settings::default());
    fails(&mut updater, "the server has nothing for edge/cloud/x86_64");
}

#[test]
fn a_version_that_was_given_up_is_tried_again_only_when_its_publisher_says_so() {
    let mut scene = scene();
    let mut updater = scene.updater();
    takes_it(&mut updater, &scene.two);
    // The firmware started it, and it did not come up: the option is there, the request is gone.
    let variables = scene.world.at("variables");
    let next = fs::read_dir(&variables).expect("variables");
    for entry in next.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("BootNext") {
            fs::remove_file(entry.path()).expect("taken");
        }
    }
    drop(updater);
    scene.world = scene.world.restarted();
    let mut updater = scene.updater();
    assert_eq!(updater.slots.rejected().len(), 1);
    for _ in 0..2 {
        assert_eq!(updater.look(), Ok(Next::Look));
        let (state, sentence) = updater.last();
        assert_eq!(state, State::Rejected);
        assert!(
            sentence.contains("failed before and is skipped"),
            "{sentence}"
        );
    }
    let one = content(1);
    for attempt in [1, 1] {
        let two = scene.two.clone();
        scene
            .publisher
            .publish_again("edge", &two, &[&one], attempt);
        scene.server.replace(&scene.publisher.files);
        takes_it(&mut updater, &two);
        assert!(updater.slots.rejected().is_empty());
        updater.slots.disarm().expect("called off");
    }
}

#[test]
fn certificates_that_are_none_are_named_with_their_file() {
    let mut scene = scene();
    scene.world.update.ca = true;
    let updater = scene.updater();
    let places = &updater.role.places;
    let why = settings(&scene.world.update, places).err();
    let why = why.expect("no certificates");
    assert!(
        why.starts_with("cannot use ") && why.contains("ca.pem"),
        "{why}"
    );
    fs::write(scene.world.at("ca.pem"), "nothing").expect("a file");
    assert!(settings(&scene.world.update, places).is_err());
}
