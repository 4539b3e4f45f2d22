//! The smallest programs that do something wrong as PID 1: an ELF header, one segment, some bytes of
//! x86-64 machine code (System V gABI, chapters 4 and 5; system calls by their numbers).

/// Ends at once: `exit(1)`. The kernel panics.
const EXITS: &[u8] = &[
    0xbf, 1, 0, 0, 0, // mov edi, 1
    0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
    0x0f, 0x05, // syscall
];

/// Opens the watchdog for writing, which starts it, and never feeds it: `open`, then `pause` for ever.
const HANGS: &[u8] = &[
    0x48, 0x8d, 0x3d, 0x15, 0, 0, 0, // lea rdi, [rip + path]
    0xbe, 1, 0, 0, 0, // mov esi, O_WRONLY
    0xb8, 2, 0, 0, 0, // mov eax, SYS_open
    0x0f, 0x05, // syscall
    0xb8, 34, 0, 0, 0, // mov eax, SYS_pause
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp to the mov before
    b'/', b'd', b'e', b'v', b'/', b'w', b'a', b't', b'c', b'h', b'd', b'o', b'g', 0,
];

/// Where the file is in memory.
const BASE: u64 = 0x40_0000;
const HEADER: u16 = 64;
const SEGMENT: u16 = 56;

/// A program that ends.
pub(super) fn exits() -> Vec<u8> {
    program(EXITS)
}

/// A program that stands still while a watchdog waits for it.
pub(super) fn hangs() -> Vec<u8> {
    program(HANGS)
}

/// A static executable with this code and nothing else.
fn program(code: &[u8]) -> Vec<u8> {
    let entry = u64::from(HEADER + SEGMENT);
    let length = entry + code.len() as u64;
    let mut file = Vec::new();
    // e_ident: class 64, little-endian, version 1.
    file.extend(b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    for half in [2_u16, 62] {
        file.extend(half.to_le_bytes()); // e_type EXEC, e_machine x86-64
    }
    file.extend(1_u32.to_le_bytes()); // e_version
    for word in [BASE + entry, u64::from(HEADER), 0] {
        file.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
    }
    file.extend(0_u32.to_le_bytes()); // e_flags
    for half in [HEADER, SEGMENT, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes()); // sizes and counts of headers; no sections
    }
    for half in [1_u32, 5] {
        file.extend(half.to_le_bytes()); // p_type LOAD, p_flags read and execute
    }
    for word in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(word.to_le_bytes()); // p_offset, addresses, sizes, p_align
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::*;

    /// Starts a program of its own process; nobody holds its file open for writing then.
    fn start(program: &[u8]) -> (tempfile::TempDir, Child) {
        let directory = tempfile::tempdir().expect("a directory");
        let (written, path) = ["written", "program"]
            .map(|name| directory.path().join(name))
            .into();
        std::fs::write(&written, program).expect("a file");
        let copied = Command::new("cp").arg(&written).arg(&path).status();
        assert!(copied.expect("cp").success());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let child = Command::new(&path).spawn().expect("it starts");
        (directory, child)
    }

    #[test]
    fn one_ends_and_one_stands_still_until_it_is_killed() {
        let (_directory, mut child) = start(&exits());
        assert_eq!(child.wait().expect("it ends").code(), Some(1));
        // Outside of a machine there is no watchdog that it could start, or it may not.
        let (_directory, mut child) = start(&program(&HANGS[19..28]));
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().expect("a look").is_none());
        child.kill().expect("a signal");
        assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    }

    #[test]
    fn the_path_is_where_the_code_looks_for_it() {
        let after = 7 + usize::from(HANGS[3]);
        assert_eq!(&HANGS[after..], b"/dev/watchdog\0");
        // The jump goes to the `mov` before the `syscall` before it.
        let target = 28 + i32::from(i8::from_le_bytes([HANGS[27]]));
        assert_eq!(target, 19);
    }
}
