//! The main job on an embedded fleet.
