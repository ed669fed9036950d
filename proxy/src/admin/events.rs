//! `GET /api/events`: what an operator hears of, as server-sent events or, for who prefers it, as a list.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use http::{HeaderMap, StatusCode, header};

use super::{Shared, error};
use crate::telemetry::events::{Event, Listening};

/// Those that are kept, and then each as it happens; after the id in `Last-Event-ID` (or `?after=`), so that who was away
/// misses none. `Accept: application/json` gets those that are kept, and no more.
pub(super) async fn events(State(state): State<Shared>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let Some(events) = state.events() else {
        return error(StatusCode::NOT_FOUND, "not_found", "this process keeps no events");
    };
    let after = last_heard(&headers, query.as_deref().unwrap_or_default());
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/json") {
        return Json(events.after(after)).into_response();
    }
    // A proxy in between and a client that has gone are noticed by the comments.
    Sse::new(told(events.listen(after))).keep_alive(KeepAlive::default()).into_response()
}

fn last_heard(headers: &HeaderMap, query: &str) -> u64 {
    let heard = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    heard.or_else(|| query.strip_prefix("after=")?.parse().ok()).unwrap_or_default()
}

fn told(listening: Listening) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let batches = stream::unfold(listening, |mut listening| async move { Some((listening.next().await, listening)) });
    batches.flat_map(|batch| stream::iter(batch.into_iter().map(|event| Ok(written(&event)))))
}

fn written(event: &Arc<Event>) -> sse::Event {
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(event.id.to_string()).data(data)
}
