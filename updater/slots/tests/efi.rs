//! Boot variables: bytes as the specification and the firmware have them, and every cut between
//! the writes of arming.

use std::collections::BTreeMap;
use std::io;

use berth_slots::efi::trial::{self, Armed};
use berth_slots::efi::{
    HardDrive, LoadOption, NoVariables, Variables, boot_file_on, from_efivarfs, option_name,
    option_number, to_efivarfs,
};
use berth_slots::gpt::Extent;
use berth_slots::layout::{BOOT_A_GUID, BOOT_B_GUID};
use berth_slots::sys::EfiVarFs;
use berth_slots::verity::RootHash;

const ROOT: RootHash = RootHash([0x5a; 32]);
const OTHER: RootHash = RootHash([0x77; 32]);

/// A firmware that keeps what it is given, until `left` writes and deletions are used up.
#[derive(Clone, Default)]
struct Firmware {
    variables: BTreeMap<String, Vec<u8>>,
    left: Option<usize>,
}

impl Firmware {
    fn allowed(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What happens to `BootNext` at a start: the option that is started, if there is one.
    fn start(&mut self) -> Option<LoadOption> {
        let next = self.variables.remove("BootNext")?;
        let number = u16::from_le_bytes(next.try_into().ok()?);
        let option = self.variables.get(&option_name(number))?;
        Some(LoadOption::decode(option).expect("an option"))
    }
}

impl Variables for Firmware {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.variables.keys().cloned().collect())
    }
    fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.variables.get(name).cloned())
    }
    fn set(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.allowed()?;
        self.variables.insert(name.to_owned(), data.to_vec());
        Ok(())
    }
    fn delete(&mut self, name: &str) -> io::Result<()> {
        self.allowed()?;
        self.variables.remove(name);
        Ok(())
    }
}

fn place() -> Extent {
    Extent::with_len(0x10800, 0x5000).expect("extent")
}

/// Written out by hand from UEFI 2.10, 3.1.3 and 10.3.5.
#[test]
fn a_boot_option_has_the_bytes_of_the_specification() {
    let option = LoadOption {
        description: "Berth".to_owned(),
        path: boot_file_on(&HardDrive {
            entry: 2,
            extent: place(),
            guid: BOOT_B_GUID,
        }),
    };
    let mut expected = vec![1, 0, 0, 0, 94, 0];
    expected.extend(b"B\0e\0r\0t\0h\0\0\0");
    expected.extend([4, 1, 42, 0, 2, 0, 0, 0]);
    expected.extend(0x10800_u64.to_le_bytes());
    expected.extend(0x5000_u64.to_le_bytes());
    expected.extend([
        0x9c, 0x25, 0xee, 0xa2, 0x17, 0x01, 0xce, 0x45, 0xa0, 0x42, 0xae, 0x4c, 0x11, 0xea, 0xb1,
        0x81,
    ]);
    expected.extend([2, 2]);
    expected.extend([4, 4, 48, 0]);
    for letter in r"\EFI\BOOT\BOOTX64.EFI".bytes() {
        expected.extend([letter, 0]);
    }
    expected.extend([0, 0, 0x7f, 0xff, 4, 0]);
    assert_eq!(option.encode(), expected);
    let read = LoadOption::decode(&expected).expect("option");
    assert_eq!(read, option);
    let partition = read.partition().expect("a partition");
    assert_eq!(
        (partition.entry, partition.extent, partition.guid),
        (2, place(), BOOT_B_GUID)
    );
    for length in 0..expected.len() {
        let cut = LoadOption::decode(&expected[..length]);
        assert!(cut.is_err(), "{length} bytes: {cut:?}");
    }
}

#[test]
fn efivarfs_has_the_attributes_in_front() {
    assert_eq!(to_efivarfs(&[0x80, 0]), [7, 0, 0, 0, 0x80, 0]);
    assert_eq!(from_efivarfs(&[6, 0, 0, 0, 1]), Some(&[1][..]));
    assert_eq!(from_efivarfs(&[6, 0, 0]), None);
    assert_eq!(option_number("Boot00AF"), Some(0xaf));
    for name in ["BootNext", "Boot00af", "Boot001", "Boot+001", "OsBoot0001"] {
        assert_eq!(option_number(name), None, "{name}");
    }
}

#[test]
fn a_trial_is_one_start_and_known_as_spent_afterwards() {
    let mut firmware = Firmware::default();
    assert_eq!(trial::look(&mut firmware, &ROOT).expect("look"), Armed::No);
    trial::arm(&mut firmware, &ROOT, place()).expect("arm");
    assert_eq!(trial::look(&mut firmware, &ROOT).expect("look"), Armed::Yes);
    assert_eq!(trial::look(&mut firmware, &OTHER).expect("look"), Armed::No);
    assert!(!firmware.variables.contains_key("BootOrder"));
    let started = firmware.start().expect("the trial");
    assert_eq!(started.partition().expect("partition").guid, BOOT_B_GUID);
    assert_eq!(
        trial::look(&mut firmware, &ROOT).expect("look"),
        Armed::Spent
    );
    assert!(firmware.start().is_none());
    assert!(trial::disarm(&mut firmware).expect("disarm"));
    assert!(firmware.variables.is_empty());
    assert!(!trial::disarm(&mut firmware).expect("disarm"));
}

#[test]
fn other_peoples_options_are_left_alone_and_their_numbers_not_used() {
    let mut firmware = Firmware::default();
    let theirs = LoadOption {
        description: "UEFI Misc Device".to_owned(),
        path: boot_file_on(&HardDrive {
            entry: 1,
            extent: place(),
            guid: BOOT_A_GUID,
        }),
    };
    for number in [0x80, 0x81] {
        firmware
            .variables
            .insert(option_name(number), theirs.encode());
    }
    firmware
        .variables
        .insert(option_name(0x82), b"not an option".to_vec());
    firmware
        .variables
        .insert("BootOrder".to_owned(), vec![0x80, 0, 0x83, 0]);
    let before = firmware.variables.clone();
    trial::arm(&mut firmware, &ROOT, place()).expect("arm");
    assert_eq!(firmware.variables["BootNext"], [0x84, 0]);
    // The number stays ours from trial to trial.
    trial::arm(&mut firmware, &OTHER, place()).expect("arm");
    assert_eq!(firmware.variables["BootNext"], [0x84, 0]);
    trial::disarm(&mut firmware).expect("disarm");
    assert_eq!(firmware.variables, before);
}

/// Whatever was there before and wherever the power goes: the trial is armed or it is not, and
/// what is not armed is never taken for spent.
#[test]
fn a_cut_while_arming_leaves_a_trial_that_is_armed_or_none() {
    let mut spent = Firmware::default();
    trial::arm(&mut spent, &OTHER, place()).expect("arm");
    let armed = spent.clone();
    spent.start();
    for before in [Firmware::default(), armed, spent] {
        let mut whole = 0;
        for cut in 0..8 {
            let mut firmware = before.clone();
            firmware.left = Some(cut);
            let done = trial::arm(&mut firmware, &ROOT, place()).is_ok();
            firmware.left = None;
            let state = trial::look(&mut firmware, &ROOT).expect("look");
            assert_eq!(
                state,
                if done { Armed::Yes } else { Armed::No },
                "cut {cut}"
            );
            let started = firmware.start();
            let of_this = started.is_some_and(|option| option.description.ends_with("5a5a"));
            assert_eq!(of_this, done, "cut {cut}");
            whole += usize::from(done);
            trial::disarm(&mut firmware).expect("disarm");
            assert!(firmware.variables.is_empty());
        }
        assert!((1..8).contains(&whole));
    }
}

#[test]
fn a_trial_that_is_called_off_halfway_was_not_spent() {
    let mut armed = Firmware::default();
    trial::arm(&mut armed, &ROOT, place()).expect("arm");
    for cut in 0..2 {
        let mut firmware = armed.clone();
        firmware.left = Some(cut);
        assert!(trial::disarm(&mut firmware).is_err());
        firmware.left = None;
        let state = trial::look(&mut firmware, &ROOT).expect("look");
        assert_ne!(state, Armed::Spent, "cut {cut}");
        trial::disarm(&mut firmware).expect("disarm");
        assert!(firmware.variables.is_empty());
    }
}

#[test]
fn firmware_that_keeps_nothing_is_noticed() {
    struct Forgetful;
    impl Variables for Forgetful {
        fn list(&mut self) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }
        fn get(&mut self, _: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(None)
        }
        fn set(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn delete(&mut self, _: &str) -> io::Result<()> {
            Ok(())
        }
    }
    let error = trial::arm(&mut Forgetful, &ROOT, place()).expect_err("forgotten");
    assert!(error.to_string().contains("does not have them"), "{error}");
    let mut none = NoVariables("started by a BIOS".to_owned());
    let error = trial::arm(&mut none, &ROOT, place()).expect_err("none");
    assert!(error.to_string().contains("started by a BIOS"));
}

/// The files of efivarfs, in a directory that stands for it.
#[test]
fn variables_are_files_and_a_machine_without_them_has_nothing_to_take_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut firmware = EfiVarFs::at(directory.path());
    trial::arm(&mut firmware, &ROOT, place()).expect("arm");
    let next = directory
        .path()
        .join("BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c");
    assert_eq!(
        std::fs::read(next).expect("BootNext"),
        [7, 0, 0, 0, 0x80, 0]
    );
    assert_eq!(trial::look(&mut firmware, &ROOT).expect("look"), Armed::Yes);
    assert!(trial::disarm(&mut firmware).expect("disarm"));
    assert!(firmware.list().expect("list").is_empty());

    let mut none = EfiVarFs::at(&directory.path().join("missing"));
    let error = trial::disarm(&mut none).expect_err("no UEFI");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}
