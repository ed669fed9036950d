//! What stands around a Waypost in Prometheus and Grafana, fitted to a config: alerts that can fire, panels that can show
//! something, both with the names and the limits of the file.
//!
//! Decides what of the shipped files belongs to a config. What is in them is decided in `docs/observability`, and that
//! it works is shown there. Pure: reads no file and asks nobody.

mod alerts;
mod dashboard;
mod subject;

pub use alerts::alerts;
pub use dashboard::dashboard;
