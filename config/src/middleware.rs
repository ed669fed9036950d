//! What may change or answer a request between its route and its service.
//!
//! Owns `[middlewares]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{HeaderName, Regex};

/// One entry of `[middlewares]`: exactly one kind.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "a handful, made once a load; boxes would be in every reader's way")]
pub enum Middleware {
    /// Sets, appends and removes header fields.
    Headers(Headers),
    /// Removes the first of these prefixes that the path begins with, by segment, and says so in `X-Forwarded-Prefix`.
    StripPrefix(Vec<String>),
    /// Answers with a redirect when the regular expression matches the URL.
    Redirect(Redirect),
}

/// Header fields to change. Removal goes first, then set, then append.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// Request fields to set, replacing what was there.
    pub request_set: IndexMap<HeaderName, String>,
    /// Request fields to add beside what was there.
    pub request_append: IndexMap<HeaderName, String>,
    /// Request fields to remove.
    pub request_remove: Vec<HeaderName>,
    /// Response fields to set, replacing what was there.
    pub response_set: IndexMap<HeaderName, String>,
    /// Response fields to add beside what was there.
    pub response_append: IndexMap<HeaderName, String>,
    /// Response fields to remove.
    pub response_remove: Vec<HeaderName>,
}

/// A redirect by regular expression over the whole URL (`https://host/path?query`).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Matched against the whole URL.
    pub regex: Regex,
    /// The target; `$1` and `${name}` stand for groups.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "default_status")]
    pub status: u16,
}

/// The names of the kinds there are, for a reader.
pub(crate) fn kinds() -> &'static str {
    "`headers`, `strip_prefix` or `redirect`"
}

fn default_status() -> u16 {
    308
}
