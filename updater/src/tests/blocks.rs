//! Updates from versions that no patch leads from, by the blocks that the machine holds.

use std::fs;
use std::path::Path;

use berth_fetch::Settings;
use berth_release::blocks::{BLOCK, SHORT};
use berth_slots::state::State as SlotState;
use berth_slots::target::Version;
use berth_tree::{Kind, Metadata, Node, Spool, Tree};

use super::publisher::{Content, Publisher, content, sha256};
use super::server::{Fault, Server};
use super::world::World;
use crate::looking::Next;

/// A version whose root is a real file system of real programs, with a file of its own in front.
fn real(number: usize) -> Content {
    let own = content(number as u64).root[..number * 9000].to_vec();
    let mut program = fs::read(std::env::current_exe().expect("a program")).expect("its bytes");
    program.truncate(2 << 20);
    let mut other = fs::read("/proc/self/exe").expect("its bytes");
    other.drain(..5 << 20);
    other.truncate(1 << 20);
    let mut spool = Spool::new_in(Path::new(&std::env::temp_dir())).expect("a spool");
    let mut tree = Tree::new(Metadata::system(0o755));
    for (path, bytes) in [("a-file", own), ("program", program), ("z-other", other)] {
        let content = spool.store(&bytes).expect("a file");
        let node = Node {
            kind: Kind::File(content),
            metadata: Metadata::system(0o755),
        };
        tree.insert(path.as_bytes(), node).expect("its place");
    }
    let mut root = Vec::new();
    berth_erofs::write(&tree, &spool, &mut root, &Default::default()).expect("an image");
    let version = Version::new(&number.to_string()).expect("a version");
    let boot = content(number as u64).boot;
    Content::new(version, 0, boot, root, sha256).expect("a release")
}

struct Scene {
    server: Server,
    world: World,
    new: Content,
    packed: u64,
}

/// A machine with version 1, and version 3 on a server, with no delta.
fn scene() -> Scene {
    let (old, new) = (real(1), real(3));
    let mut publisher = Publisher::new();
    publisher.indexes = true;
    publisher.publish("edge", &new, &[]);
    let release = publisher.release("edge");
    let packed = release.root.part.packed.expect("a packed root").bytes;
    let server = Server::start(&publisher.files);
    let mut world = World::running(&old, &publisher);
    world.update.url = Some(server.url());
    Scene {
        server,
        world,
        new,
        packed,
    }
}

/// What it says it fetched, when it took the version.
fn fetched(scene: &Scene) -> u64 {
    let mut updater = scene.world.role(Settings::default());
    assert_eq!(updater.look(), Ok(Next::Restart));
    assert!(
        matches!(updater.slots.state(), SlotState::Armed(target) if target.root_hash == scene.new.target.root_hash)
    );
    let said = updater.said().into_iter().rev();
    let staged = said
        .map(|record| record.sentence)
        .find(|sentence| sentence.contains("bytes fetched"));
    let staged = staged.expect("a sentence");
    println!("{staged}; packed, the root has {} bytes", scene.packed);
    let words: Vec<&str> = staged.split(' ').collect();
    let at = words.iter().position(|word| *word == "bytes");
    let number = at.and_then(|at| words[at - 1].parse().ok());
    number.expect("a number")
}

#[test]
fn a_version_without_a_delta_is_made_of_blocks_that_the_machine_holds() {
    let scene = scene();
    let fetched = fetched(&scene);
    let index = scene.new.target.root_bytes / BLOCK as u64 * SHORT as u64;
    assert!(
        fetched < scene.packed / 4 && fetched > index,
        "{fetched} bytes were fetched; packed it would be {}",
        scene.packed
    );
}

#[test]
fn an_index_that_is_gone_or_wrong_only_costs_bytes() {
    for fault in [Fault::Gone, Fault::Flip] {
        let scene = scene();
        scene.server.fault(move |path| match path {
            path if path.contains(".blocks") => fault,
            _ => Fault::None,
        });
        assert!(fetched(&scene) > scene.packed);
    }
}
