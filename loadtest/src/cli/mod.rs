//! The longer commands, a file each: their words, and what is done about them.

mod chaos;
mod compare;
mod flood;

pub(crate) use chaos::Chaos;
pub(crate) use compare::Compare;
pub(crate) use flood::Flood;
