//! The promises, one module each.

mod round_robin;
