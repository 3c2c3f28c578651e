//! An assembler for classic BPF that works from the end of a program to its start.

use std::collections::HashMap;

use crate::sys::bpf::{Instruction, code};

/// A jump target: the number of instructions between it and the end of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label(usize);

/// Maximum number of instructions that a comparison skips without a relay. It is less than the
/// maximum of the eight-bit field, because another relay may be inserted in between.
const REACH: usize = 250;

/// A program under construction. BPF jumps only forward, so the target of each jump exists already
/// if the program is built from its end.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// The latest unconditional jump to each target that is out of a comparison's reach.
    relays: HashMap<Label, Label>,
}

impl Assembler {
    /// Prepends a return that keeps this many bytes of the packet.
    pub(super) fn ending(&mut self, keep: u32) -> Label {
        self.push(Instruction::new(code::RETURN, keep))
    }

    /// Prepends a block (codes and operands) that continues at `next`.
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

    /// Prepends a comparison that continues at `yes` or `no`.
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

    /// Returns the number of instructions between the next prepended one and `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target.0 - 1
    }

    /// Returns `target`, or a relay to it that a comparison can reach.
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
