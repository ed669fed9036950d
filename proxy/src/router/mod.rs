//! Which route?
