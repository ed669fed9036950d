//! Which request goes where: the conditions of a route and what it does with a match.
//!
//! Owns `[routes.*]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Cidr, Duration, HeaderName, HostPattern, Method, Regex};

/// Which requests go to a service. All conditions given must hold; a list holds when one of its members does.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Names of the listeners it applies to; empty means all.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// Hosts, exact or `*.example.com`.
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
    /// The whole path.
    #[serde(default)]
    pub path: Option<String>,
    /// The path or its leading segments: `/api` holds for `/api` and `/api/x`, not for `/apifoo`.
    #[serde(default)]
    pub path_prefix: Option<String>,
    /// A regular expression over the whole path (anchored at both ends).
    #[serde(default)]
    pub path_regex: Option<Regex>,
    /// Request methods.
    #[serde(default)]
    pub methods: Vec<Method>,
    /// Header fields that must be there with this value; `"*"` means any value.
    #[serde(default)]
    pub headers: IndexMap<HeaderName, String>,
    /// Query parameters that must be there with this value; `"*"` means any value.
    #[serde(default)]
    pub query: IndexMap<String, String>,
    /// Cookies that must be there with this value; `"*"` means any value.
    #[serde(default)]
    pub cookies: IndexMap<String, String>,
    /// Networks the client's address must be in.
    #[serde(default)]
    pub client_ips: Vec<Cidr>,
    /// Greater goes first; routes of equal priority go by specificity, then by their order in the file.
    #[serde(default)]
    pub priority: i64,
    /// Names of middlewares, in the order a request meets them.
    #[serde(default)]
    pub middlewares: Vec<String>,
    /// Name of the service that answers.
    pub service: String,
    /// Time limits of the whole exchange.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
}

impl Route {
    /// Whether it applies to this listener.
    pub fn is_on(&self, listener: &str) -> bool {
        self.listeners.is_empty() || self.listeners.iter().any(|name| name == listener)
    }
}

/// Time limits of a route.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// From the request's head to the response's head, retries included; absent means none beyond the attempts' own.
    pub request: Option<Duration>,
}
