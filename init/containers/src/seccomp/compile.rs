//! From rules to a classic BPF program: a binary search over system call numbers.
//!
//! The kernel runs a new filter once for every system call to learn which are always allowed
//! (and never asks again for those), so the mean depth of the search is what attaching costs:
//! each step halves the numbers that are left, not the ranges. And the kernel translates the program to machine code in several passes, so its length is too. The program
//! is therefore made backwards: what a search ends in is there once, and jumped to. It reads
//! only `struct seccomp_data` (linux/seccomp.h).

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
    /// Not known to this kernel.
    pub(super) const UNKNOWN: Self = Self::Errno(libc::ENOSYS as u16);

    fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        }
    }
}

/// How one system call is decided. Arguments are compared in their lower halves: the three calls
/// that are decided so take 32-bit first arguments, or flags in the lower half only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Always so.
    Return(Verdict),
    /// Allowed when the first argument is one of these, refused otherwise.
    OneOf(&'static [u32]),
    /// Allowed when the first argument has none of these bits, refused otherwise.
    NoneOf(u32),
    /// By the range that the first argument is in; each starts where it says, the first at 0.
    Ranges(&'static [(u32, Verdict)]),
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

/// The first number of the other ABI of x86_64, x32.
const X32: u32 = 0x4000_0000;
/// Where arguments end that are worth a short search.
const FAR_ARGUMENT: u32 = 64;
/// Room for the default profile.
const USUAL_LENGTH: usize = 256;
/// A conditional jump skips no more instructions; less one, for the other side may need a detour.
const FARTHEST: usize = 254;

/// Compiles a table of rules, each at its number; numbers after it do not exist.
pub(super) fn compile(table: &[Rule]) -> Vec<Instruction> {
    let mut program = Backwards::default();
    let end = u32::try_from(table.len()).unwrap_or(X32);
    let search = program.search(&ranges(table), end, Backwards::rule);
    program.begin_with(search);
    let search = program.push(LOAD, NUMBER);
    let refused = program.verdict(Verdict::REFUSED);
    program.branch(JUMP_IF_EQUAL, ARCHITECTURE, search, refused);
    program.push(LOAD, ARCHITECTURE_AT);
    program.finished()
}

/// Rules for single numbers as ranges that cover every number.
fn ranges(table: &[Rule]) -> Vec<(u32, Rule)> {
    let unknown = Rule::Return(Verdict::UNKNOWN);
    let refused = Rule::Return(Verdict::REFUSED);
    let known = (0..).zip(table.iter().copied());
    let end = u32::try_from(table.len()).unwrap_or(X32);
    let mut ranges: Vec<(u32, Rule)> = Vec::with_capacity(USUAL_LENGTH);
    for (start, rule) in known.chain([(end, unknown), (X32, refused)]) {
        if ranges.last().is_none_or(|(_, last)| *last != rule) {
            ranges.push((start, rule));
        }
    }
    ranges
}

/// An instruction of a program that is made from its end: how many there are from it on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

/// A program that grows at its beginning.
struct Backwards {
    /// The last instruction first.
    instructions: Vec<Instruction>,
    verdicts: Vec<(Verdict, Label)>,
}

impl Default for Backwards {
    fn default() -> Self {
        Self {
            instructions: Vec::with_capacity(USUAL_LENGTH),
            verdicts: Vec::with_capacity(4),
        }
    }
}

impl Backwards {
    fn finished(mut self) -> Vec<Instruction> {
        self.instructions.reverse();
        self.instructions
    }

    fn first(&self) -> Label {
        Label(self.instructions.len())
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        self.instructions.push(instruction(code, k, 0, 0));
        self.first()
    }

    /// How many instructions one that is put first must skip to reach a label.
    fn distance(&self, label: Label) -> usize {
        self.instructions.len().saturating_sub(label.0)
    }

    /// Makes the program begin at a label.
    fn begin_with(&mut self, label: Label) {
        if label != self.first() {
            self.push(JUMP, self.distance(label) as u32);
        }
    }

    /// The label, or a jump to it where a conditional jump does not reach.
    fn within_reach(&mut self, label: Label) -> Label {
        if self.distance(label) > FARTHEST {
            self.begin_with(label);
            return self.first();
        }
        label
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.within_reach(yes), self.within_reach(no));
        let skip = |label| u8::try_from(self.distance(label)).unwrap_or(u8::MAX);
        let branch = instruction(code, k, skip(yes), skip(no));
        self.instructions.push(branch);
        self.first()
    }

    fn verdict(&mut self, verdict: Verdict) -> Label {
        let known = self.verdicts.iter().find(|(known, _)| *known == verdict);
        if let Some((_, label)) = known {
            return *label;
        }
        let label = self.push(RETURN, verdict.code());
        self.verdicts.push((verdict, label));
        label
    }

    /// A search of the accumulator among ranges, each number before `last` as likely as another;
    /// `end` makes what it ends in.
    fn search<T: Copy>(
        &mut self,
        ranges: &[(u32, T)],
        last: u32,
        end: fn(&mut Self, T) -> Label,
    ) -> Label {
        let (first, what) = match ranges {
            [] => return self.verdict(Verdict::REFUSED),
            [(_, what)] => return end(self, *what),
            [(first, what), ..] => (*first, *what),
        };
        let half = first.midpoint(last.max(first));
        let middle = ranges.partition_point(|(start, _)| *start < half);
        let (below, above) = ranges.split_at(middle.clamp(1, ranges.len() - 1));
        let Some((start, _)) = above.first() else {
            return end(self, what);
        };
        let yes = self.search(above, last, end);
        let no = self.search(below, *start, end);
        self.branch(JUMP_IF_AT_LEAST, *start, yes, no)
    }

    fn rule(&mut self, rule: Rule) -> Label {
        if let Rule::Return(verdict) = rule {
            return self.verdict(verdict);
        }
        let allow = self.verdict(Verdict::Allow);
        let refused = self.verdict(Verdict::REFUSED);
        let decision = match rule {
            Rule::Return(_) => refused,
            Rule::OneOf(values) => values.iter().fold(refused, |otherwise, value| {
                self.branch(JUMP_IF_EQUAL, *value, allow, otherwise)
            }),
            Rule::NoneOf(bits) => self.branch(JUMP_IF_BITS, bits, refused, allow),
            Rule::Ranges(ranges) => self.search(ranges, FAR_ARGUMENT, Self::verdict),
        };
        self.begin_with(decision);
        self.push(LOAD, FIRST_ARGUMENT)
    }
}

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a program as the kernel does for a native call: the verdict's code, and how many
    /// instructions it took.
    pub(crate) fn run(program: &[Instruction], number: u32, first: u32) -> (u32, usize) {
        run_for(program, ARCHITECTURE, number, first)
    }

    fn run_for(
        program: &[Instruction],
        architecture: u32,
        number: u32,
        first: u32,
    ) -> (u32, usize) {
        let (mut at, mut accumulator, mut steps) = (0, 0, 0);
        loop {
            let now = program[at];
            steps += 1;
            at += 1;
            let holds = match now.code {
                LOAD => {
                    accumulator = match now.k {
                        NUMBER => number,
                        ARCHITECTURE_AT => architecture,
                        FIRST_ARGUMENT => first,
                        other => panic!("a load from {other}"),
                    };
                    continue;
                }
                RETURN => return (now.k, steps),
                JUMP => {
                    at += now.k as usize;
                    continue;
                }
                JUMP_IF_EQUAL => accumulator == now.k,
                JUMP_IF_AT_LEAST => accumulator >= now.k,
                JUMP_IF_BITS => accumulator & now.k != 0,
                other => panic!("operation {other:#x}"),
            };
            at += usize::from(if holds { now.jt } else { now.jf });
        }
    }

    fn decides(program: &[Instruction], number: u32, first: u32, verdict: Verdict) {
        let (code, _) = run(program, number, first);
        assert_eq!(code, verdict.code(), "number {number}, argument {first}");
    }

    #[test]
    fn every_number_is_decided_by_its_own_rule() {
        const HALF: &[(u32, Verdict)] = &[(0, Verdict::Allow), (7, Verdict::REFUSED)];
        let other = Verdict::Errno(77);
        let table = [
            Rule::Return(Verdict::Allow),
            Rule::Return(Verdict::REFUSED),
            Rule::OneOf(&[3, 5]),
            Rule::NoneOf(0b110),
            Rule::Ranges(HALF),
            Rule::Return(other),
        ];
        let program = compile(&table);
        decides(&program, 0, 0, Verdict::Allow);
        decides(&program, 1, 0, Verdict::REFUSED);
        for (value, verdict) in [(3, true), (5, true), (4, false), (0, false)] {
            let verdict = if verdict {
                Verdict::Allow
            } else {
                Verdict::REFUSED
            };
            decides(&program, 2, value, verdict);
        }
        decides(&program, 3, 0b1001, Verdict::Allow);
        decides(&program, 3, 0b0100, Verdict::REFUSED);
        decides(&program, 4, 6, Verdict::Allow);
        decides(&program, 4, 7, Verdict::REFUSED);
        decides(&program, 5, 0, other);
        decides(&program, 6, 0, Verdict::UNKNOWN);
        decides(&program, X32 - 1, 0, Verdict::UNKNOWN);
        decides(&program, X32, 0, Verdict::REFUSED);
        decides(&program, u32::MAX, 0, Verdict::REFUSED);
        assert_eq!(
            run_for(&program, 0x4000_0003, 0, 0).0,
            Verdict::REFUSED.code()
        );
    }

    #[test]
    fn jumps_reach_across_more_than_a_conditional_jump_can_skip() {
        let table: Vec<Rule> = (0..2000)
            .map(|number| Rule::Return(Verdict::Errno(number)))
            .collect();
        let program = compile(&table);
        for number in 0..2000 {
            decides(&program, number.into(), 0, Verdict::Errno(number));
        }
    }

    #[test]
    fn an_empty_table_knows_no_number() {
        decides(&compile(&[]), 0, 0, Verdict::UNKNOWN);
    }
}
