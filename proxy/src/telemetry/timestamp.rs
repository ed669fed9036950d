//! A moment as logs and the admin API show it.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// Shows itself as RFC 3339 in UTC with milliseconds: `2026-11-21T05:12:00.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub SystemTime);

impl Timestamp {
    /// This moment.
    pub fn now() -> Timestamp {
        Timestamp(SystemTime::now())
    }

    /// What it shows, made without the machinery of `fmt`, which takes several times as long.
    pub fn to_bytes(self) -> [u8; 24] {
        let time = OffsetDateTime::from(self.0);
        let mut text = *b"YYYY-MM-DDTHH:MM:SS.mmmZ";
        let year = u16::try_from(time.year()).unwrap_or_default();
        text[..4].copy_from_slice(&decimal::<4>(year.into()));
        let pairs = [u8::from(time.month()), time.day(), time.hour(), time.minute(), time.second()];
        for (pair, place) in pairs.into_iter().zip(text[5..].chunks_mut(3)) {
            place[..2].copy_from_slice(&decimal::<2>(pair.into()));
        }
        text[20..23].copy_from_slice(&decimal::<3>(time.millisecond().into()));
        text
    }
}

/// The last `N` digits of a number, with zeros before it.
pub fn decimal<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        let [.., last] = (number % 10).to_be_bytes();
        *digit += last;
        number /= 10;
    }
    digits
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| out.write_char(char::from(*byte)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
