//! zlib under the name of zlib-ng, so that the build needs a C compiler and no cmake.
//!
//! `pingora-core` asks for `flate2` with zlib-ng for a compression module that Waypost does not use. The two C
//! libraries have one interface, and `libz-sys` exports it under the same names.

pub use libz_sys::*;
