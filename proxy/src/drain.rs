//! Running, draining, stopped.
