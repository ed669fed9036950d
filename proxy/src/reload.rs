//! The one way in for change.
