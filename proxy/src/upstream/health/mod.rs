//! Is an endpoint well?
