//! The `Date` of responses that have none (RFC 9110 section 6.6.1).
//!
//! Owns the text of the present second, one per thread.

use std::cell::RefCell;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::encode;

struct Written {
    second: Duration,
    text: String,
}

thread_local! {
    static WRITTEN: RefCell<Written> = const { RefCell::new(Written { second: Duration::ZERO, text: String::new() }) };
}

/// Adds the field.
pub fn field(out: &mut Vec<u8>) {
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let second = Duration::from_secs(second.as_secs());
    WRITTEN.with_borrow_mut(|written| {
        if written.second != second {
            written.second = second;
            written.text.clear();
            let done = write!(written.text, "{}", httpdate::HttpDate::from(now));
            debug_assert!(done.is_ok(), "writing to a String cannot fail");
        }
        encode::field(out, "date", written.text.as_bytes());
    });
}
