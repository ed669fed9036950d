//! The composition root: builds everything, spawns every background task.
