//! Machines that no web server reaches: a bundle on a disk that is plugged in; and firmware that
//! cannot try a version.

use berth_qemu_tests::image::Image;
use berth_qemu_tests::published::{Published, Version};
use berth_qemu_tests::{Disk, Error, Line, Machine, TestResult, within};
use serde_json::json;

fn says<'a>(state: &'a str, words: &'a str) -> impl Fn(&Line) -> bool + 'a {
    move |line| {
        let sentence = line.sentence.as_deref().unwrap_or_default();
        line.get("update") == Some(state) && sentence.contains(words)
    }
}

/// Plugs a file in as a disk; gives what to unplug.
fn plug(machine: &Machine, name: &str, file: &std::path::Path) -> TestResult {
    let node = json!({
        "driver": "raw", "node-name": name, "read-only": true,
        "file": { "driver": "file", "filename": file },
    });
    machine.monitor().execute("blockdev-add", node)?;
    let disk = json!({ "driver": "scsi-hd", "id": name, "drive": name, "bus": "plugs.0" });
    machine.monitor().execute("device_add", disk).map(drop)
}

fn unplug(machine: &Machine, name: &str) -> TestResult {
    let gone = json!({ "id": name });
    machine.monitor().execute("device_del", gone).map(drop)
}

#[test]
fn a_machine_without_a_network_updates_itself_from_what_is_plugged_in() -> TestResult {
    let published = Published::new()?;
    let offline = |number| {
        Version::good(number)
            .network("")
            .update("bundles = true\npolicy = \"auto\"\n")
    };
    let one = published.build(&offline("1"))?;
    let two = published.build(&offline("2"))?;
    published.publish(&two)?;
    let good = published.bundle()?;
    // The metadata comes first in a bundle, and is signed.
    let mut bytes = std::fs::read(&good).map_err(Error::file("reading", &good))?;
    eprintln!("bundle: {} bytes", bytes.len());
    let place = bytes.windows(9).rposition(|word| word == b"\"expires\"");
    let place = place.ok_or_else(|| Error::broken("the bundle has no metadata"))?;
    bytes[place + 12] ^= 1;
    let tampered = published.write("tampered", &bytes)?;

    let start = |name| {
        let disk = Disk::of(one.disk()).grown_to(1 << 30);
        Machine::named(name)
            .uefi_with(published.variables())
            .disk(disk.kept_at(published.disk()))
            .without_network()
            .headless()
            .reboots()
    };
    let machine = start("bundle-plugged")
        .with(["-device", "virtio-scsi-pci,id=plugs"])
        .start()?;
    let console = machine.console();
    let none = says("waiting", "no bundle is plugged in");
    console.expect("that nothing is plugged in", within(30), none)?;
    plug(&machine, "tampered", &tampered)?;
    let refused = says("trouble", "is not used: the metadata of");
    console.expect("the tampered bundle to be refused", within(20), refused)?;
    unplug(&machine, "tampered")?;
    plug(&machine, "good", &good)?;
    let staged = says("staged", "version 2 is in the other slot");
    console.expect("version 2 in the other slot", within(30), staged)?;
    let kept = says("committed", "version 2");
    console.expect("version 2 to stay", within(40), kept)?;
    machine.shut_down(within(20))?;
    drop(machine);

    // Still there at the next start, of a machine whose firmware has forgotten everything.
    let variables = published.variables();
    std::fs::remove_file(&variables).map_err(Error::file("removing", &variables))?;
    let machine = start("bundle-there").disk(Disk::of(&good)).start()?;
    let current = says("current", "version 2 is the newest");
    machine
        .console()
        .expect("version 2 again", within(30), current)?;
    machine.shut_down(within(20))
}

/// QEMU's kernel loader stands for firmware that keeps no variables; OVMF shows what it left.
#[test]
fn firmware_that_cannot_try_a_version_gets_it_without_a_trial_where_that_is_wanted() -> TestResult {
    let published = Published::new()?;
    let offline = |number, keys: &str| {
        let update = format!("bundles = true\npolicy = \"auto\"\n{keys}");
        Version::good(number).network("").update(&update)
    };
    let careful = published.build(&offline("0", ""))?;
    let one = published.build(&offline("1", "without_trial = true\n"))?;
    let two = published.build(&offline("2", "without_trial = true\n"))?;
    published.publish(&two)?;
    let bundle = published.bundle()?;
    let start = |name, image: &Image, disk: Disk| {
        Machine::named(name)
            .direct(image.kernel(), image.command_line()?)
            .disk(disk.grown_to(1 << 30))
            .disk(Disk::of(&bundle))
            .without_network()
            .headless()
            .start()
    };

    let machine = start("untried-refused", &careful, Disk::of(careful.disk()))?;
    let names_the_key = says("trouble", "without_trial = true in [update]");
    machine
        .console()
        .expect("the key to be named", within(40), names_the_key)?;
    machine.shut_down(within(20))?;
    drop(machine);

    let disk = || Disk::of(one.disk()).kept_at(published.disk());
    let machine = start("untried", &one, disk())?;
    let restarts = says("staged", "runs it without a trial");
    machine
        .console()
        .expect("the restart into version 2", within(40), restarts)?;
    machine.ended(within(20))?;
    drop(machine);
    let machine = Machine::named("untried-kept")
        .uefi()
        .disk(disk().grown_to(1 << 30))
        .without_network()
        .headless()
        .start()?;
    let kept = says("committed", "version 2 stays without having been tried");
    machine
        .console()
        .expect("version 2 to run", within(30), kept)?;
    machine.shut_down(within(20))
}
