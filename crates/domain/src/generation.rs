//! Generation ids: `gen-<unix seconds>-<20 characters>`.
//!
//! The 20 characters carry the generation's row number under a keyed permutation, so a look-up by id needs no index, ids
//! say nothing about how many there are, and an id that was not handed out decodes to nothing.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::Timestamp;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const CHARACTERS: usize = 20;
/// Bits of one half of the permuted block; two halves are below 62^20 (about 2^119.08).
const HALF_BITS: u32 = 59;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
const ROUNDS: u8 = 6;

/// The number of a generation: rises with admission, keys its rows, never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationRow(pub i64);

/// The public id of a generation. Equal in the body, in `X-Generation-Id` and in `GET /generation` (contract section 14.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GenerationId(String);

impl GenerationId {
    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The keyed permutation between row numbers and ids: a Feistel network with SipHash-2-4 as its round function.
#[derive(Clone)]
pub struct IdCipher {
    key: [u8; 16],
}

impl fmt::Debug for IdCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdCipher([redacted])")
    }
}

impl IdCipher {
    /// The permutation under `key`, which belongs to one database for life.
    pub const fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The id of the generation in `row` that was admitted at `at`.
    pub fn id(&self, row: GenerationRow, at: Timestamp) -> GenerationId {
        let seconds = at.seconds();
        let (mut left, mut right) = (seconds.unsigned_abs() & HALF_MASK, row.0.unsigned_abs() & HALF_MASK);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        let mut block = (u128::from(left) << HALF_BITS) | u128::from(right);
        let mut text = [0_u8; CHARACTERS];
        for slot in text.iter_mut().rev() {
            let digit = usize::try_from(block.checked_rem(62).unwrap_or(0)).unwrap_or(0);
            *slot = ALPHABET.get(digit).copied().unwrap_or(b'A');
            block = block.checked_div(62).unwrap_or(0);
        }
        let characters = text.iter().copied().map(char::from).collect::<String>();
        GenerationId(format!("gen-{seconds}-{characters}"))
    }

    /// The row that `text` names, if this database handed it out.
    pub fn row(&self, text: &str) -> Option<GenerationRow> {
        let (seconds, characters) = text.strip_prefix("gen-")?.split_once('-')?;
        let seconds: u64 = seconds.parse().ok()?;
        if characters.len() != CHARACTERS {
            return None;
        }
        let mut block: u128 = 0;
        for byte in characters.bytes() {
            let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
            block = block.checked_mul(62)?.checked_add(u128::try_from(digit).ok()?)?;
        }
        let mut left = u64::try_from(block >> HALF_BITS).ok()?;
        let mut right = u64::try_from(block & u128::from(HALF_MASK)).ok()?;
        if left > HALF_MASK {
            return None;
        }
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        // The left half must say the second that the id shows: a guess passes with a chance of 2^-59.
        (left == seconds).then_some(())?;
        i64::try_from(right).ok().map(GenerationRow)
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u8(round);
        hasher.write_u64(half);
        hasher.finish() & HALF_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_has_the_shape_of_the_contract() {
        let id = IdCipher::new([7; 16]).id(GenerationRow(1), Timestamp::from_micros(1_783_514_921_000_000));
        let (head, tail) = id.as_str().rsplit_once('-').unwrap();
        assert_eq!(head, "gen-1783514921");
        assert_eq!(tail.len(), 20);
        assert!(tail.bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    proptest! {
        #[test]
        fn an_id_leads_back_to_its_row_and_to_no_other_database(row in 0_i64..1 << 50, micros in 0_i64..1 << 52) {
            let at = Timestamp::from_micros(micros);
            let cipher = IdCipher::new([1; 16]);
            let id = cipher.id(GenerationRow(row), at);
            prop_assert_eq!(cipher.row(id.as_str()), Some(GenerationRow(row)));
            prop_assert_eq!(IdCipher::new([2; 16]).row(id.as_str()), None);
        }

        #[test]
        fn foreign_text_names_no_generation(text in "gen-[0-9]{1,12}-[A-Za-z0-9]{20}") {
            prop_assert_eq!(IdCipher::new([1; 16]).row(&text), None);
        }
    }
}
