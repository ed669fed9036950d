//! A moment as logs and the admin API show it.

use std::fmt;
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
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from(self.0);
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        let (hour, minute, second, milli) = (time.hour(), time.minute(), time.second(), time.millisecond());
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
