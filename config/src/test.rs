//! What the author of a file expects of it: requests, and what must become of them.
//!
//! Owns `[[tests]]`, and the drawing of those that fail. Never knows what becomes of a request; who compiles the
//! configuration does.

use std::net::IpAddr;
use std::path::Path;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Document, Part};
use crate::place::Place;
use crate::problem::{Complaint, Find, Problems};
use crate::value::HeaderName;

/// A request that is not sent, and what must become of it. Run by `waypost check`, at the start and before every reload;
/// one that fails refuses the file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Method and URL, `"GET https://shop.example/api/cart"`; GET if there is only a URL, or its path.
    pub request: String,
    /// Further header fields of the request.
    #[serde(default)]
    pub headers: IndexMap<HeaderName, String>,
    /// The other end of the connection; absent means an address that is nobody's, 192.0.2.1.
    #[serde(default)]
    pub client: Option<IpAddr>,
    /// The listener it comes in on; absent means the first that fits the URL.
    #[serde(default)]
    pub listener: Option<String>,
    /// What must become of it; at least one key. Whether endpoints are available plays no part.
    pub expect: Expect,
}

/// What must become of a request.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The route it belongs to; `""` means none.
    pub route: Option<String>,
    /// The service that gets it; `""` means none.
    pub service: Option<String>,
    /// The status of the answer that Waypost gives by itself, without asking an endpoint.
    pub status: Option<u16>,
    /// The reason of that answer: `redirect`, `no_route`, `bad_request`, …
    pub reason: Option<String>,
    /// The `Location` of that answer.
    pub location: Option<String>,
    /// Path and query as they go to the endpoint.
    pub target: Option<String>,
    /// Header fields as they go to the endpoint; `""` means that there is none of the name.
    pub headers: IndexMap<HeaderName, String>,
}

impl Test {
    /// Method and URL.
    pub fn method_and_url(&self) -> (&str, &str) {
        let request = self.request.trim();
        request.split_once(' ').map_or(("GET", request), |(method, url)| (method, url.trim()))
    }
}

impl Expect {
    /// Whether everything would do.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Expect::default()
    }
}

/// An expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Where it stands: `tests[1].expect.route`.
    pub place: Place,
    /// What is so instead, in lower case, without a period.
    pub message: String,
    /// Why it is so.
    pub hint: Option<String>,
}

/// The drawing of broken expectations, in the text that was loaded from `path`; `None` if there are none.
pub fn problems(text: &str, path: &Path, broken: Vec<Broken>) -> Option<Problems> {
    if broken.is_empty() {
        return None;
    }
    let document = Document::again(text);
    let find = |Broken { place, message, hint }: Broken| {
        let complaint = Complaint::new(message).maybe_hint(hint);
        // None is lost, whatever the text is like.
        let nowhere =
            Find { span: 0..0, place: place.clone(), complaint: complaint.clone(), related: None, lint: None };
        document.complain(&place, Part::Value, complaint).unwrap_or(nowhere)
    };
    let finds = broken.into_iter().map(find).collect();
    Some(Problems::new(&path.display().to_string(), text, finds))
}
