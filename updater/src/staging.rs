//! Puts one version into the other slot: both parts, each by the best way that there is.

use std::fs::File;

use berth_delta::Source;
use berth_release::Release;
use berth_slots::SECTOR;
use berth_slots::block::Block;
use berth_slots::efi::Variables;
use berth_slots::gpt::Extent;
use berth_slots::record::Records;
use berth_slots::session::Session;
use berth_slots::slot::Slot;
use berth_slots::staging::Part;
use berth_slots::target::{Target, Version};
use berth_slots::verity::RootHash;

use crate::metadata::Offer;
use crate::report::State;
use crate::role::Places;
use crate::server::Server;
use crate::telling::Teller;
use crate::transfer::{Counted, Nothing, Transfer, Window};

/// Progress is told at most this often, in hundredths of the whole.
const PROGRESS_STEP: u64 = 10;

/// What a version is staged with.
pub(crate) struct Stage<'a> {
    /// Where its files come from.
    pub(crate) server: &'a mut dyn Server,
    /// Who hears of it.
    pub(crate) teller: &'a mut Teller,
    /// Where things are.
    pub(crate) places: &'a Places,
    /// Root hash of the version that runs.
    pub(crate) running_root: RootHash,
}

impl Stage<'_> {
    /// Fills the other slot with `release` and seals it.
    ///
    /// # Errors
    /// A sentence. What was written stays, and is used next time.
    pub(crate) fn fill<D: Block, V: Variables, R: Records>(
        self,
        slots: &mut Session<D, V, R>,
        release: &Release,
        target: Target,
    ) -> Result<(), String> {
        let version = release.version.as_str();
        let [boot, root] = self.sources(slots.committed())?;
        let delta = release.delta_from(&self.running_root.0);
        let whole = release.boot.bytes.saturating_add(release.root.part.bytes);
        let way = match delta {
            Some(delta) => {
                let bytes = delta.boot.bytes.saturating_add(delta.root.bytes);
                format!("a delta of {bytes} bytes from version {}", delta.version)
            }
            None => format!("{whole} bytes; there is no delta from this version"),
        };
        let sentence = format!("version {version} is being fetched: {way}");
        self.teller.say(State::Staging, version, sentence);

        let mut staging = slots.stage(target).map_err(|why| why.to_string())?;
        let mut total = Counted::default();
        let mut told = 0;
        let patches = [delta.map(|delta| delta.boot), delta.map(|delta| delta.root)];
        let parts = [
            (Part::Boot, &release.boot, boot),
            (Part::Root, &release.root.part, root),
        ];
        for ((part, published, mut source), patch) in parts.into_iter().zip(patches) {
            let mut nothing = Nothing;
            let held = source.again()?;
            let mut patches: Vec<(berth_release::Patch, &mut dyn Source)> = Vec::new();
            if let Some(patch) = patch {
                patches.push((patch, &mut source));
            }
            if let Some(packed) = published.packed {
                patches.push((packed, &mut nothing));
            }
            let before = total.sum();
            let teller = &mut *self.teller;
            let mut progress = |done: u64, _: u64| {
                let done = before.saturating_add(done).saturating_mul(100);
                let hundredths = done.checked_div(whole).unwrap_or(0);
                let hundredths = hundredths / PROGRESS_STEP * PROGRESS_STEP;
                if hundredths > told {
                    told = hundredths;
                    let sentence = format!("version {version} is being fetched: {hundredths} %");
                    teller.progress(State::Staging, version, sentence);
                }
            };
            let mut transfer = Transfer {
                server: &mut *self.server,
                staging: &mut staging,
                part,
                published,
                progress: &mut progress,
                counted: Counted::default(),
                unflushed: 0,
                held: Some(held),
            };
            transfer.run(&mut patches).map_err(|why| why.to_string())?;
            total = total.and(transfer.counted);
        }
        let proof = staging.finish().map_err(|why| why.to_string())?;
        slots.staged(proof).map_err(|why| why.to_string())?;
        let sentence = format!("version {version} is in the other slot: {total}");
        self.teller.say(State::Staged, version, sentence);
        Ok(())
    }

    /// What deltas are made from: the committed slot, which is the one that runs. Not by way of
    /// dm-verity, for which a rotten block is the end of the machine: here it makes a chunk that has
    /// the wrong hash and is got in another way.
    fn sources(&self, committed: Slot) -> Result<[Window; 2], String> {
        let window = |extent: Extent| -> Result<Window, String> {
            let disk = &self.places.disk;
            let file = File::open(disk);
            let file = file.map_err(|why| format!("cannot open {}: {why}", disk.display()))?;
            Ok(Window {
                file,
                start: extent.first().saturating_mul(SECTOR),
                bytes: extent.sectors().saturating_mul(SECTOR),
            })
        };
        Ok([window(committed.boot)?, window(committed.root)?])
    }
}

/// What the slot is to hold, of a document that was verified.
pub(crate) fn target(offer: &Offer) -> Result<Target, String> {
    let release = &offer.release;
    Ok(Target {
        version: Version::new(&release.version).ok_or("the offered version has no name")?,
        security_version: release.security_version,
        attempt: release.attempt,
        manifest: offer.manifest,
        boot_bytes: release.boot.bytes,
        boot_sha256: release.boot.sha256.0,
        root_bytes: release.root.part.bytes,
        root_hash: RootHash(release.root.root_hash.0),
    })
}
