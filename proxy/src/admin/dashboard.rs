//! The dashboard: a page, a style and scripts, embedded in the binary and served as they are.
//!
//! Decides what a browser may do with them: nothing but ask this very address. Tells nothing of the process; what the page
//! shows it asks the API for, as everybody does.

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// A file, by the path it is served at.
struct File {
    path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Declares the files: path, media type, and the file beside this one.
macro_rules! files {
    ($($path:literal: $media_type:ident = $file:literal;)*) => {
        const FILES: &[File] = &[$(
            File { path: $path, media_type: $media_type, text: include_str!(concat!("dashboard/", $file)) },
        )*];
    };
}

files! {
    "/": HTML = "index.html";
    "/dashboard/style.css": CSS = "style.css";
    "/dashboard/icon.svg": SVG = "icon.svg";
    "/dashboard/main.js": SCRIPT = "main.js";
    "/dashboard/api.js": SCRIPT = "api.js";
    "/dashboard/page.js": SCRIPT = "page.js";
    "/dashboard/words.js": SCRIPT = "words.js";
    "/dashboard/history.js": SCRIPT = "history.js";
    "/dashboard/chart.js": SCRIPT = "chart.js";
    "/dashboard/verdict.js": SCRIPT = "verdict.js";
    "/dashboard/traffic.js": SCRIPT = "traffic.js";
    "/dashboard/services.js": SCRIPT = "services.js";
    "/dashboard/routes.js": SCRIPT = "routes.js";
    "/dashboard/explain.js": SCRIPT = "explain.js";
    "/dashboard/listeners.js": SCRIPT = "listeners.js";
    "/dashboard/config.js": SCRIPT = "config.js";
    "/dashboard/events.js": SCRIPT = "events.js";
}

/// What a browser may do with them. The page has no inline script or style, makes no element of text, sends no form, is
/// shown in no frame, and speaks with nobody but this address.
const RULES: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // It may be kept, and is asked for again each time: a new version shows at once.
    (header::CACHE_CONTROL, "no-cache"),
];

/// The paths of all files.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        let tag = file.tag();
        router.route(file.path, get(move |headers: HeaderMap| async move { file.answer(&tag, &headers) }))
    })
}

impl File {
    /// The entity tag: what the file says, and nothing else, decides it.
    fn tag(&self) -> HeaderValue {
        let digest = digest(&SHA256, self.text.as_bytes());
        let bits = digest.as_ref().iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        HeaderValue::from_str(&format!("\"{bits:016x}\"")).expect("hexadecimal digits fit into a header")
    }

    fn answer(&self, tag: &HeaderValue, asked: &HeaderMap) -> Response {
        let known = asked.get_all(header::IF_NONE_MATCH).iter().any(|known| known == tag);
        let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { self.text.into_response() };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(header::ETAG, tag.clone());
        headers.extend(RULES.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}
