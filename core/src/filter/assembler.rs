//! An assembler for classic BPF that works from the end of a program to its start.

use std::collections::HashMap;

use crate::sys::bpf::{Instruction, code};

/// A place in the program that can be jumped to: how many instructions stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label(usize);

/// The furthest that a comparison jumps without help, a little below what its eight bits can say, since another relay
/// may come in between.
const REACH: usize = 250;

/// A program under construction. BPF jumps only forward, so a program that is put together from its end knows the
/// target of each jump already.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// For targets out of a comparison's reach: the latest unconditional jump that leads there.
    relays: HashMap<Label, Label>,
}

impl Assembler {
    /// Puts a block in front of the program so far, which ends in a return.
    pub(super) fn ending(&mut self, keep: u32) -> Label {
        self.push(Instruction::new(code::RETURN, keep))
    }

    /// Puts a block (codes and operands) in front, after which it goes on at `next`.
    pub(super) fn block(&mut self, block: &[(u16, u32)], next: Label) -> Label {
        let mut label = next;
        if next.0 + 1 != self.reversed.len() {
            let distance = self.distance(next);
            label = self.push(Instruction::new(code::JUMP, distance.try_into().unwrap_or(u32::MAX)));
        }
        for (code, k) in block.iter().rev() {
            label = self.push(Instruction::new(*code, *k));
        }
        label
    }

    /// Puts a comparison in front, after which it goes on at `yes` or `no`.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.within_reach(yes);
        let no = self.within_reach(no);
        let [jt, jf] = [yes, no].map(|target| u8::try_from(self.distance(target)).unwrap_or(u8::MAX));
        self.push(Instruction::compare(code, k, jt, jf))
    }

    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len() - 1)
    }

    /// How many instructions the next one would skip to get to `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target.0 - 1
    }

    fn within_reach(&mut self, target: Label) -> Label {
        if self.distance(target) <= REACH {
            return target;
        }
        match self.relays.get(&target) {
            Some(relay) if self.distance(*relay) <= REACH => *relay,
            _ => {
                let relay = self.block(&[], target);
                self.relays.insert(target, relay);
                relay
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_targets_are_reached_over_relays() {
        let mut assembler = Assembler::default();
        let drop = assembler.ending(0);
        let mut label = assembler.ending(1);
        for _ in 0..1_000 {
            label = assembler.branch(code::IF_EQUAL, 7, drop, label);
        }
        let program = assembler.finish();
        assert!(program.len() < 1_010, "{}", program.len());
        for start in (0..program.len()).filter(|index| program[*index].code == code::IF_EQUAL) {
            let mut index = start + 1 + usize::from(program[start].jt);
            while program[index].code == code::JUMP {
                index += 1 + usize::try_from(program[index].k).unwrap();
            }
            assert_eq!(program[index], Instruction { code: code::RETURN, jt: 0, jf: 0, k: 0 });
        }
    }
}
