//! What Waypost says of itself.
