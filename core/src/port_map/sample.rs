//! The secret sample of the ports that no door uses.

/// One port in sixteen, spread evenly and chosen by a secret: the ports whose number, multiplied by
/// `multiplier`, has `pick` as its top four bits. A capture filter can compute that in two
/// instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) multiplier: u32,
    pub(crate) pick: u32,
}

/// Shift in bits that leaves the top four bits of the product.
pub(crate) const SHIFT: u32 = 28;
/// Number of consecutive ports that contain at least half of their share of the sample.
const WINDOW: u16 = 256;

impl Sample {
    /// Derives the sample from a secret.
    pub(crate) fn new(secret: u32) -> Self {
        let mut state = u64::from(secret);
        loop {
            // splitmix64 (Steele, Lea and Flood 2014): its outputs for successive states are
            // independent.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            let [pick, _, _, _, multiplier @ ..] = mixed.to_be_bytes();
            let sample = Self { multiplier: u32::from_be_bytes(multiplier) | 1, pick: u32::from(pick >> 4) };
            // A multiplier near a simple fraction of 2^32 leaves out long ranges of ports, in which
            // a scan could remain undetected.
            if sample.is_even() {
                return sample;
            }
        }
    }

    /// Returns true if the port belongs to the sample.
    pub(crate) fn contains(self, port: u16) -> bool {
        u32::from(port).wrapping_mul(self.multiplier) >> SHIFT == self.pick
    }

    fn is_even(self) -> bool {
        (0..=u16::MAX / WINDOW).all(|window| {
            let first = window * WINDOW;
            let sampled = (first..=first + (WINDOW - 1)).filter(|port| self.contains(*port)).count();
            sampled >= usize::from(WINDOW) / 32
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_secret_gives_an_even_sample_of_one_in_sixteen() {
        for secret in (0..200).chain([u32::MAX, 1 << 31]) {
            let sample = Sample::new(secret);
            let sampled = (0..=u16::MAX).filter(|port| sample.contains(*port)).count();
            assert!((3_500..4_700).contains(&sampled), "{secret}: {sampled}");
        }
    }

    #[test]
    fn secrets_give_different_samples() {
        assert_ne!(Sample::new(1), Sample::new(2));
    }
}
