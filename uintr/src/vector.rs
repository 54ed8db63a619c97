//! User-interrupt vectors.

use std::fmt;

use crate::error::Error;

/// A user-interrupt vector: 0 to 63. Of several that are pending the highest is delivered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vector(u8);

impl Vector {
    /// How many there are.
    pub const COUNT: usize = 64;

    /// The highest.
    pub const MAX: Self = Self(63);

    /// The vector with this number.
    ///
    /// # Errors
    /// [`Error::Vector`] above 63.
    pub const fn new(number: u8) -> Result<Self, Error> {
        if number < 64 { Ok(Self(number)) } else { Err(Error::Vector { number: number as u64 }) }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its bit in a set of vectors, as PIR and UIRR are.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self.0
    }

    /// The highest of a set.
    #[must_use]
    pub const fn highest(set: u64) -> Option<Self> {
        if set == 0 { None } else { Some(Self(63 - set.leading_zeros() as u8)) }
    }
}

impl TryFrom<u64> for Vector {
    type Error = Error;

    fn try_from(number: u64) -> Result<Self, Error> {
        u8::try_from(number).map_err(|_| Error::Vector { number }).and_then(Self::new)
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_64() {
        for number in 0..64 {
            let vector = Vector::new(number).unwrap();
            assert_eq!((vector.number(), vector.bit()), (number, 1 << number));
            assert_eq!(Vector::highest(vector.bit() | vector.bit() >> 1), Some(vector));
        }
        for number in [64, 65, 255, 256, 1 << 32, u64::MAX] {
            let error = Vector::try_from(number).unwrap_err();
            assert!(matches!(error, Error::Vector { number: n } if n == number), "{error}");
        }
        assert_eq!(Vector::highest(0), None);
        assert_eq!(Vector::highest(u64::MAX), Some(Vector::MAX));
    }
}
