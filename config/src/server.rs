//! The process and its admin address.
//!
//! Owns `[server]` and `[admin]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Duration, Percent, Secret, Workers};

/// How the process runs.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Worker threads: a count, or `"auto"` for one per core.
    pub workers: Workers,
    /// After SIGTERM the process is gone at the latest after this time, and at once when idle.
    pub grace_period: Duration,
    /// After SIGTERM `/ready` answers 503 for this long before listeners close.
    pub drain_delay: Duration,
    /// Where a new process asks for the listening sockets; absent means no upgrade by hand-over.
    pub upgrade_socket: Option<PathBuf>,
    /// Takes a reloaded config back by itself if its routes fail more than before; absent means never.
    pub guard: Option<Guard>,
}

/// When a reloaded config is taken back.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// For so long after it was published a config is watched.
    pub window: Duration,
    /// By how much a changed route's share of answers of 500 and above may grow over that of the two minutes before.
    pub max_error_ratio_increase: Percent,
    /// Fewer requests of a route than this say nothing.
    pub min_requests: u64,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard { window: Duration::seconds(30), max_error_ratio_increase: Percent(0.05), min_requests: 100 }
    }
}

impl Default for Server {
    fn default() -> Server {
        Server {
            workers: Workers::Auto,
            grace_period: Duration::seconds(25),
            drain_delay: Duration::ZERO,
            upgrade_socket: None,
            guard: None,
        }
    }
}

/// Health, metrics and the API, on an address of its own.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Where to listen, for example `127.0.0.1:9900`.
    pub address: SocketAddr,
    /// Asked for as `Authorization: Bearer …` by anything that does not come over loopback; needed
    /// where the address is not a loopback one. 16 characters at least.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Whether `/ready` answers 503 while a service has no available endpoint.
    #[serde(default)]
    pub ready_needs_endpoints: bool,
}
