//! The number of attempts that each door holds, and the door that holds most.

/// The number of attempts of each door, in a tournament tree: a change costs one comparison for
/// each level, and the winner is found in constant time.
#[derive(Debug)]
pub(super) struct Shares {
    /// Number of attempts by door; padded with zeros to a power of two.
    held: Box<[u32]>,
    /// For each node, the door that holds most in the two halves below it: the children of node n
    /// are 2n and 2n + 1, and node 1 is the root. Nodes from `held.len()` on are single doors and
    /// not stored.
    winners: Box<[u16]>,
}

impl Shares {
    pub(super) fn new(doors: usize) -> Self {
        let held = vec![0; doors.next_power_of_two()].into_boxed_slice();
        let mut shares = Self { winners: vec![0; held.len()].into(), held };
        for node in (1..shares.held.len()).rev() {
            shares.winners[node] = shares.winner(2 * node);
        }
        shares
    }

    /// Number of attempts at a door.
    pub(super) fn held(&self, door: u16) -> u32 {
        self.held[usize::from(door)]
    }

    /// Returns the door that holds most; of doors that hold the same number, the first in the file.
    pub(super) fn most(&self) -> u16 {
        self.winner(1)
    }

    /// Counts one more attempt.
    pub(super) fn add(&mut self, door: u16) {
        self.held[usize::from(door)] += 1;
        self.play(door);
    }

    /// Counts one attempt fewer.
    pub(super) fn remove(&mut self, door: u16) {
        self.held[usize::from(door)] -= 1;
        self.play(door);
    }

    /// Updates the ancestors of a door that changed, up to one whose winner is another door and
    /// stays the same.
    fn play(&mut self, door: u16) {
        let mut node = (self.held.len() + usize::from(door)) / 2;
        while node > 0 {
            let (left, right) = (self.winner(2 * node), self.winner(2 * node + 1));
            let winner = if self.held(right) > self.held(left) { right } else { left };
            if std::mem::replace(&mut self.winners[node], winner) == winner && winner != door {
                return;
            }
            node /= 2;
        }
    }

    fn winner(&self, node: usize) -> u16 {
        match node.checked_sub(self.held.len()) {
            // There are at most 65,536 doors.
            Some(door) => u16::try_from(door).unwrap_or(u16::MAX),
            None => self.winners[node],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winner_is_the_first_door_that_holds_most() {
        let mut rng = fastrand::Rng::with_seed(7);
        for doors in [1_u16, 2, 3, 5, 8, 100] {
            let mut shares = Shares::new(doors.into());
            let mut held = vec![0; doors.into()];
            for _ in 0..2_000 {
                let door = rng.u16(..doors);
                if held[usize::from(door)] > 0 && rng.bool() {
                    held[usize::from(door)] -= 1;
                    shares.remove(door);
                } else {
                    held[usize::from(door)] += 1;
                    shares.add(door);
                }
                let most = held.iter().max().unwrap();
                let first = held.iter().position(|held| held == most).unwrap();
                assert_eq!((usize::from(shares.most()), shares.held(door)), (first, held[usize::from(door)]));
            }
        }
    }
}
