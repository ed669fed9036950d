//! What the user wrote: the configuration as plain data, and everything that can be wrong with it.
//!
//! Owns the types of the TOML file, how a file becomes a [`Config`] and the [`Problem`]s found on the way.
//! Never knows a runtime type: no socket, no HTTP type, no state.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod document;
mod expand;
mod fault;
pub mod listener;
pub mod load;
pub mod middleware;
mod paths;
mod place;
pub mod problem;
mod reference;
pub mod route;
pub mod schema;
pub mod server;
pub mod service;
pub mod telemetry;
mod validate;
pub mod value;
pub mod watch;
mod words;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use listener::Listener;
pub use load::{LoadError, Loaded, load, parse};
pub use middleware::Middleware;
pub use problem::{Problem, Problems};
pub use reference::reference;
pub use route::Route;
pub use schema::schema;
pub use server::{Admin, Server};
pub use service::Service;
pub use telemetry::Telemetry;
pub use watch::Watcher;

/// One configuration file, whole.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this format; always 1.
    pub version: u32,
    /// The process: workers, grace period, upgrade socket.
    #[serde(default)]
    pub server: Server,
    /// The admin address; absent means no admin listener.
    #[serde(default)]
    pub admin: Option<Admin>,
    /// Log, access log and metrics.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Addresses to accept on, by name.
    #[serde(default)]
    pub listeners: IndexMap<String, Listener>,
    /// Which request goes to which service, by name, in file order.
    #[serde(default)]
    pub routes: IndexMap<String, Route>,
    /// What may change or answer a request on its way, by name.
    #[serde(default)]
    pub middlewares: IndexMap<String, Middleware>,
    /// Fleets of identical endpoints, by name.
    #[serde(default)]
    pub services: IndexMap<String, Service>,
}
