//! waypost-tests
