//! UKIs judged as PE files by goblin and by objdump.

use std::process::Command;

use berth_disk::uki::{Texts, Uki, UkiError, check_kernel};

/// Debian's stub, which the tool ships.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

fn stub() -> Vec<u8> {
    std::fs::read(STUB)
        .unwrap_or_else(|e| panic!("cannot read {STUB} ({e}): apt-get install systemd-boot-efi"))
}

fn texts() -> Texts<'static> {
    Texts {
        os_release: "ID=berth\nVERSION_ID=1\n",
        command_line: "root=/dev/dm-0 ro quiet",
        kernel_release: "6.12.0",
    }
}

fn kernel(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn uki(kernel: &[u8]) -> Vec<u8> {
    let uki = Uki::new(&stub(), texts(), kernel.len() as u64).expect("uki");
    let mut file = Vec::new();
    uki.write(&mut &kernel[..], &mut file).expect("write");
    assert_eq!(file.len() as u64, uki.bytes());
    file
}

#[test]
fn goblin_finds_every_section_whole_and_none_over_another() {
    let stub = stub();
    let before = goblin::pe::PE::parse(&stub).expect("the stub");
    for len in [1, 511, 512, 4096, 1_000_001] {
        let kernel = kernel(len);
        let file = uki(&kernel);
        let pe = goblin::pe::PE::parse(&file).expect("a PE file");
        let data = |name: &str| {
            let section = pe
                .sections
                .iter()
                .find(|s| s.name().is_ok_and(|found| found == name))
                .unwrap_or_else(|| panic!("no section {name}"));
            let at = section.pointer_to_raw_data as usize;
            &file[at..at + section.virtual_size as usize]
        };
        assert_eq!(data(".osrel"), texts().os_release.as_bytes());
        assert_eq!(data(".cmdline"), texts().command_line.as_bytes());
        assert_eq!(data(".uname"), texts().kernel_release.as_bytes());
        assert_eq!(data(".linux"), kernel);
        for section in &before.sections {
            let at = section.pointer_to_raw_data as usize;
            let bytes = &stub[at..at + section.virtual_size as usize];
            assert_eq!(data(section.name().expect("name")), bytes);
        }
        let header = pe.header.optional_header.expect("optional header");
        let mut end = u64::from(header.windows_fields.size_of_headers);
        let mut raw_end = end;
        for section in &pe.sections {
            let at = u64::from(section.virtual_address);
            let raw = u64::from(section.pointer_to_raw_data);
            assert!(at >= end, "{:?} overlaps in memory", section.name());
            assert!(raw >= raw_end, "{:?} overlaps in the file", section.name());
            assert_eq!(raw % 512, 0);
            end = at + u64::from(section.virtual_size);
            raw_end = raw + u64::from(section.size_of_raw_data);
        }
        assert_eq!(raw_end, file.len() as u64);
        let image = u64::from(header.windows_fields.size_of_image);
        assert!(
            (end..end + 512).contains(&image),
            "SizeOfImage {image}, end {end}"
        );
        let linux = pe.sections.last().expect("a section").pointer_to_raw_data;
        assert_eq!(linux % 4096, 0);
    }
}

#[test]
fn objdump_lists_the_sections() {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), uki(&kernel(100_000))).expect("write");
    let output = Command::new("objdump")
        .arg("-h")
        .arg(file.path())
        .output()
        .unwrap_or_else(|e| panic!("cannot run objdump ({e}): apt-get install binutils"));
    assert!(output.status.success());
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout);
    for name in [
        ".text", ".sdmagic", ".osrel", ".cmdline", ".uname", ".linux",
    ] {
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn the_same_parts_give_the_same_bytes() {
    assert!(uki(&kernel(5000)) == uki(&kernel(5000)));
}

#[test]
fn what_is_no_stub_or_no_kernel_is_refused_with_a_reason() {
    let refused = |stub: &[u8]| Uki::new(stub, texts(), 1).expect_err("refusal");
    assert_eq!(refused(b"MZ"), UkiError::NotPe("the stub"));
    assert_eq!(refused(&uki(&kernel(9))), UkiError::SectionExists(".osrel"));
    assert!(check_kernel(&stub()).is_ok());
    let said = check_kernel(&[0; 4096]).expect_err("refusal").to_string();
    assert!(said.contains("CONFIG_EFI_STUB"), "{said}");
    assert_eq!(
        Uki::new(&stub(), texts(), 3 << 30).expect_err("refusal"),
        UkiError::TooLarge
    );
}

#[test]
fn a_damaged_stub_never_panics() {
    let whole = stub();
    for at in 0..whole.len().min(1024) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            let _ = Uki::new(&damaged, texts(), 10);
        }
        let _ = Uki::new(&whole[..at], texts(), 10);
    }
}

#[test]
fn a_kernel_that_changes_its_length_is_an_error() {
    let uki = Uki::new(&stub(), texts(), 10).expect("uki");
    for len in [9, 11] {
        let error = uki.write(&mut &kernel(len)[..], &mut Vec::new());
        assert!(error.is_err(), "{len} bytes instead of 10");
    }
}
