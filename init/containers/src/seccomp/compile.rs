//! From rules to a classic BPF program: a binary search over system call numbers.
//!
//! The kernel runs a new filter once for every system call to learn which are always allowed
//! (and never asks again for those), so the depth of the search is what attaching costs. The
//! program reads only `struct seccomp_data` (linux/seccomp.h).

use crate::sys::process::Instruction;

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Carries it out.
    Allow,
    /// Fails with this error number.
    Errno(u16),
}

impl Verdict {
    /// Not permitted.
    pub(super) const REFUSED: Self = Self::Errno(libc::EPERM as u16);

    fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        }
    }
}

/// How one system call is decided. Arguments are compared in their lower halves: the three calls
/// that are decided so take 32-bit first arguments, or flags in the lower half only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Always so.
    Return(Verdict),
    /// Allowed when the first argument is one of these, refused otherwise.
    OneOf(&'static [u32]),
    /// Allowed when the first argument has none of these bits, refused otherwise.
    NoneOf(u32),
    /// By the range that the first argument is in; each starts where it says, the first at 0.
    Ranges(Vec<(u32, Verdict)>),
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

// Offsets in struct seccomp_data, little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

// Operation codes of classic BPF (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Compiles rules, sorted by number; a number without a rule is refused, one after `last_known`
/// does not exist.
pub(super) fn compile(rules: &[(u32, Rule)], last_known: u32) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE_AT, 0, 0),
        instruction(JUMP_IF_EQUAL, ARCHITECTURE, 1, 0),
        give(Verdict::REFUSED),
        instruction(LOAD, NUMBER, 0, 0),
    ];
    let ranges = ranges(rules, last_known);
    program.extend(search(&ranges, &rule_code));
    program
}

/// Turns rules for single numbers into ranges that cover every number.
fn ranges(rules: &[(u32, Rule)], last_known: u32) -> Vec<(u32, Rule)> {
    let refused = Rule::Return(Verdict::REFUSED);
    let unknown = Rule::Return(Verdict::Errno(libc::ENOSYS as u16));
    let mut ranges: Vec<(u32, Rule)> = Vec::new();
    let mut push = |start: u32, rule: &Rule| {
        if ranges.last().is_none_or(|(_, last)| last != rule) {
            ranges.push((start, rule.clone()));
        }
    };
    let mut next = 0;
    for (number, rule) in rules {
        if *number > next {
            push(next, &refused);
        }
        push(*number, rule);
        next = number.saturating_add(1);
    }
    if next <= last_known {
        push(next, &refused);
    }
    push(last_known.saturating_add(1), &unknown);
    // The other ABI of x86_64, x32, has numbers of its own.
    push(0x4000_0000, &refused);
    ranges
}

/// A binary search of the accumulator among ranges; `code` is what a range does.
fn search<T>(ranges: &[(u32, T)], code: &dyn Fn(&T) -> Vec<Instruction>) -> Vec<Instruction> {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let Some((middle, what)) = above.first() else {
        return Vec::new();
    };
    if below.is_empty() {
        return code(what);
    }
    let below = search(below, code);
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![instruction(JUMP_IF_AT_LEAST, *middle, length, 0)],
        // A conditional jump goes no further than 255 instructions.
        Err(_) => vec![
            instruction(JUMP_IF_AT_LEAST, *middle, 0, 1),
            instruction(JUMP, below.len() as u32, 0, 0),
        ],
    };
    program.extend(below);
    program.extend(search(above, code));
    program
}

fn rule_code(rule: &Rule) -> Vec<Instruction> {
    let load = instruction(LOAD, FIRST_ARGUMENT, 0, 0);
    let mut program = vec![load];
    match rule {
        Rule::Return(verdict) => return vec![give(*verdict)],
        Rule::OneOf(values) => {
            for value in *values {
                program.push(instruction(JUMP_IF_EQUAL, *value, 0, 1));
                program.push(give(Verdict::Allow));
            }
            program.push(give(Verdict::REFUSED));
        }
        Rule::NoneOf(bits) => {
            program.push(instruction(JUMP_IF_BITS, *bits, 1, 0));
            program.push(give(Verdict::Allow));
            program.push(give(Verdict::REFUSED));
        }
        Rule::Ranges(ranges) => {
            program.extend(search(ranges, &|verdict| vec![give(*verdict)]));
        }
    }
    program
}

fn give(verdict: Verdict) -> Instruction {
    instruction(RETURN, verdict.code(), 0, 0)
}

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}
