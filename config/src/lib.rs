//! What the user wrote: the configuration as plain data, and everything that can be wrong with it.
//!
//! Owns the types of the TOML file, how a file becomes a [`Config`] and the [`Problem`]s found on the way.
//! Never knows a runtime type: no socket, no HTTP type, no state.
//!
//! [`load()`] reads a file and gives a [`Loaded`] (the [`Config`], the text it came from and the other files it depends
//! on), or a [`LoadError`] with every [`Problem`] of the file at once, each drawn at its place. Nothing that could be
//! loaded is half right: names exist, ranges hold, files are there; only the content of certificates is left to the one
//! who uses them. To follow a file, make a [`Watcher`] with the text that was loaded and with [`Loaded::files`], give it
//! both anew after each load ([`Watcher::set_files`]), and load again on each change; while a load is refused, keep what runs.
//! The types' own documentation is the reference for users ([`reference()`]) and the JSON schema for editors
//! ([`schema()`]).
//!
//! ```
//! let text = r#"
//!     version = 1
//!     [listeners.web]
//!     adress = "0.0.0.0:8080"
//!     [routes.all]
//!     service = "app"
//!     [services.app]
//!     endpoints = [{ name = "app-1", url = "http://127.0.0.1:9001" }]
//! "#;
//! let environment = |name: &str| std::env::var(name).ok();
//! let problems = waypost_config::parse(text, "waypost.toml".as_ref(), &environment).unwrap_err();
//! let problem = problems.iter().next().unwrap();
//! assert_eq!(problem.path, "listeners.web.adress");
//! assert_eq!(problem.hint.as_deref(), Some("did you mean `address`?"));
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod document;
mod expand;
mod fault;
pub mod lint;
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
pub mod test;
mod validate;
pub mod value;
pub mod watch;
mod words;
mod written;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use lint::{Lint, Remark};
pub use listener::Listener;
pub use load::{LoadError, Loaded, load, parse};
pub use middleware::Middleware;
pub use place::Place;
pub use problem::{Problem, Problems};
pub use reference::reference;
pub use route::Route;
pub use schema::schema;
pub use server::{Admin, Server};
pub use service::Service;
pub use telemetry::Telemetry;
pub use test::Test;
pub use watch::Watcher;
use written::Written;

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
    /// Requests, and what must become of them.
    #[serde(default)]
    pub tests: Vec<Test>,
    /// What its strings were before references in them were replaced.
    #[serde(skip)]
    pub(crate) written: Written,
}

impl Config {
    /// As TOML, every default written out: secrets as `***`, and what came from a reference as that reference.
    pub fn shown(&self) -> String {
        let shown = toml::to_string_pretty(self).expect("a config is made of what TOML has");
        self.written.restored(shown)
    }

    /// The routes that apply to a listener, in file order.
    pub fn routes_of(&self, listener: &str) -> impl Iterator<Item = (&String, &Route)> {
        self.routes.iter().filter(move |(_, route)| route.is_on(listener))
    }
}
