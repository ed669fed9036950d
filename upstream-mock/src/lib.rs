//! upstream-mock
