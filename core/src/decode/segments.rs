//! Sets of TCP segments, told apart by their flags.

use std::ops::BitOr;

use super::TcpFlags;

/// A set of TCP segments: bit `n` is set if segments whose six flags are `n` belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentSet(u64);

impl SegmentSet {
    /// Every segment, whatever its flags.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// The segments whose flags satisfy `belongs`.
    pub(crate) fn of(belongs: impl Fn(TcpFlags) -> bool) -> Self {
        Self((0..64).filter(|flags| belongs(TcpFlags::from_bits(*flags))).fold(0, |set, flags| set | 1 << flags))
    }

    pub(crate) fn contains(self, flags: TcpFlags) -> bool {
        self.0 >> flags.bits() & 1 == 1
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The segments that belong to the set if `flag` (a single one) is set or clear as given, whether it is or not.
    pub(crate) fn given(self, flag: TcpFlags, is_set: bool) -> Self {
        let with = Self::of(|flags| flags.contains(flag)).0;
        let distance = flag.bits();
        if is_set {
            let kept = self.0 & with;
            Self(kept | kept >> distance)
        } else {
            let kept = self.0 & !with;
            Self(kept | kept << distance)
        }
    }
}

impl BitOr for SegmentSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_flag_no_longer_matters() {
        let set = SegmentSet::of(|flags| flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK));
        let open = set.given(TcpFlags::SYN, true).given(TcpFlags::ACK, false);
        assert_eq!(open, SegmentSet::ALL);
        assert!(set.given(TcpFlags::SYN, false).is_empty() && set.given(TcpFlags::ACK, true).is_empty());
        assert_eq!(set.given(TcpFlags::URG, true), set);
        assert_eq!(set.given(TcpFlags::FIN, false), set);
    }
}
