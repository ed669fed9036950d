//! The admin API: health, metrics, what is configured, how it is doing, and the few things one may do to it.
//!
//! Decides paths, statuses and who may use them. Owns nothing: all it tells and does goes through [`AdminState`], which
//! the composition root implements. `/ping`, `/ready` and the dashboard's files, which tell nothing, are open to all; for
//! the rest see [`Auth`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use self::auth::{Auth, Denied};
pub use self::view::{
    CertificateView, ConfigView, DrainOrder, EndpointView, GenerationView, ListenerView, NotFound, Phase, ProblemView,
    Proposal, RefusedView, ReloadRefused, ReloadReport, RouteView, ServiceView, StatusView,
};
use crate::explain::{self as explanation, Explanation, Question, Unclear};
use crate::reload::Preview;
use crate::telemetry::events::Events;
use crate::telemetry::history;
use crate::telemetry::metrics;

mod auth;
mod dashboard;
mod events;
mod view;

/// How long [`serve`] lets open connections end after its shutdown was asked for.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Bytes of a config that may be asked about: some fifty thousand routes.
const LONGEST_CONFIG: usize = 16 << 20;

/// What the API tells and does.
#[async_trait]
pub trait AdminState: Send + Sync + 'static {
    /// Where the process is in its life.
    fn phase(&self) -> Phase;
    /// Why it is not ready though it is running, one phrase each; `Ok` if there is no reason.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// All metrics in Prometheus's text format.
    fn metrics_text(&self) -> String;
    /// Where it stands, in a few words.
    fn status_view(&self) -> StatusView;
    /// What the last fifteen minutes were like, from the step after this one on.
    fn history(&self, after: u64) -> history::Told;
    /// All listeners, in the order of the config.
    fn listeners_view(&self) -> Vec<ListenerView>;
    /// All routes, in the order of the config.
    fn routes_view(&self) -> Vec<RouteView>;
    /// The config that is serving.
    fn config_view(&self) -> ConfigView;
    /// All services, in the order of the config.
    fn services_view(&self) -> Vec<ServiceView>;
    /// What would happen to a request, and why.
    fn explain(&self, question: &Question) -> Result<Explanation, Unclear>;
    /// What an operator hears of, if the process keeps it.
    fn events(&self) -> Option<Events>;
    /// What this would change if it were published.
    async fn preview(&self, of: Proposal) -> Result<Preview, ReloadRefused>;
    /// Reads the config again. It runs to its end even if the caller goes away.
    async fn reload(&self) -> Result<ReloadReport, ReloadRefused>;
    /// Publishes an earlier generation again, by default the one before.
    async fn rollback(&self, to: Option<u64>) -> Result<ReloadReport, ReloadRefused>;
    /// The last generations, the newest first.
    fn generations(&self) -> Vec<GenerationView>;
    /// Drains an endpoint or ends that, until the opposite order; the config's `drain` counts beside it.
    fn drain(&self, service: &str, endpoint: &str, order: DrainOrder) -> Result<(), NotFound>;
}

type Shared = Arc<dyn AdminState>;

/// All paths. Requests need [`ConnectInfo`] of a [`SocketAddr`], as [`serve`] gives it; one without is from elsewhere.
pub fn router(state: Arc<dyn AdminState>, auth: Auth) -> Router {
    let open = dashboard::router().route("/ping", get(ping)).route("/ready", get(ready));
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/version", get(version))
        .route("/api/status", get(status))
        .route("/api/history", get(last_minutes))
        .route("/api/config", get(config))
        .route("/api/listeners", get(listeners))
        .route("/api/routes", get(routes))
        .route("/api/services", get(services))
        .route("/api/explain", get(explain))
        .route("/api/events", get(events::events))
        .route("/api/diff", post(diff).layer(DefaultBodyLimit::max(LONGEST_CONFIG)))
        .route("/api/reload", post(reload))
        .route("/api/rollback", post(rollback))
        .route("/api/generations", get(generations))
        .route("/api/generations/{number}/diff", get(rollback_diff))
        .route("/api/services/{service}/endpoints/{endpoint}/drain", post(drain))
        .route("/api/services/{service}/endpoints/{endpoint}/undrain", post(undrain))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::new(auth), guard));
    guarded.merge(open.method_not_allowed_fallback(wrong_method)).with_state(state)
}

/// Serves until `shutdown` resolves; answers under way get a moment to end.
pub async fn serve<F>(listener: TcpListener, router: Router, shutdown: F) -> std::io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (begun, shutting_down) = oneshot::channel();
    let signal = async move {
        shutdown.await;
        // Nobody listens any more when the server has failed by itself.
        let _ = begun.send(());
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(signal);
    let limit = async move {
        let _ = shutting_down.await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        result = async { server.await } => result,
        () = limit => Ok(()),
    }
}

async fn guard(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let (parts, body) = request.into_parts();
    match auth.check(peer, &parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(denied) => refusal(denied),
    }
}

fn refusal(denied: Denied) -> Response {
    let mut response = error(denied.status(), denied.token(), &denied.to_string());
    if denied.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn error(status: StatusCode, token: &str, detail: &str) -> Response {
    (status, Json(json!({ "error": token, "detail": detail }))).into_response()
}

async fn no_such_path() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", "no such path")
}

async fn wrong_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path has another method")
}

async fn ping() -> &'static str {
    "pong\n"
}

async fn ready(State(state): State<Shared>) -> Response {
    let phase = state.phase();
    let reasons = match phase {
        Phase::Starting => vec!["starting".to_owned()],
        Phase::Draining => vec!["draining".to_owned()],
        Phase::Running => state.ready().err().unwrap_or_default(),
    };
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": reasons.is_empty(), "phase": phase, "reasons": reasons });
    (status, Json(body)).into_response()
}

async fn metrics(State(state): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], state.metrics_text())
}

async fn version() -> impl IntoResponse {
    Json(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}

async fn status(State(state): State<Shared>) -> Json<StatusView> {
    Json(state.status_view())
}

/// After the step `?after=N`, or all that is kept.
async fn last_minutes(State(state): State<Shared>, RawQuery(query): RawQuery) -> Response {
    match number(query.as_deref(), "after=") {
        Ok(after) => Json(state.history(after.unwrap_or_default())).into_response(),
        Err(()) => error(StatusCode::BAD_REQUEST, "unclear", "write ?after=N, N being a step's number"),
    }
}

async fn listeners(State(state): State<Shared>) -> Json<Vec<ListenerView>> {
    Json(state.listeners_view())
}

async fn routes(State(state): State<Shared>) -> Json<Vec<RouteView>> {
    Json(state.routes_view())
}

async fn config(State(state): State<Shared>) -> Json<ConfigView> {
    Json(state.config_view())
}

async fn services(State(state): State<Shared>) -> Json<Vec<ServiceView>> {
    Json(state.services_view())
}

async fn explain(State(state): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let answer = asked(query.as_deref().unwrap_or_default())
        .and_then(|question| state.explain(&question).map_err(|unclear| unclear.to_string()));
    match answer {
        Ok(explanation) => Json(explanation).into_response(),
        Err(detail) => error(StatusCode::BAD_REQUEST, "unclear", &detail),
    }
}

/// `method`, `url`, `header` (as often as need be, `name: value`), `client`, `listener` and `sni`, as in a form.
fn asked(query: &str) -> Result<Question, String> {
    let mut question = Question::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "method" => question.method = value.into_owned(),
            "url" => question.url = value.into_owned(),
            "header" => question.headers.push(explanation::header(&value).map_err(|unclear| unclear.to_string())?),
            "client" => question.client = value.parse().map_err(|_| format!("`{value}` is not an address"))?,
            "listener" => question.listener = Some(value.into_owned()),
            "sni" => question.sni = Some(value.into_owned()),
            _ => return Err(format!("`{key}` is not one of method, url, header, client, listener and sni")),
        }
    }
    Ok(question)
}

async fn reload(State(state): State<Shared>) -> Response {
    change(async move { state.reload().await }).await
}

/// To the generation `?to=N`, or to the one before.
async fn rollback(State(state): State<Shared>, RawQuery(query): RawQuery) -> Response {
    match number(query.as_deref(), "to=") {
        Ok(to) => change(async move { state.rollback(to).await }).await,
        Err(()) => error(StatusCode::BAD_REQUEST, "unclear", "write ?to=N, N being a generation's number"),
    }
}

/// The number behind `key`, the only one that a query may have.
fn number(query: Option<&str>, key: &str) -> Result<Option<u64>, ()> {
    let number = query.map(|query| query.strip_prefix(key).unwrap_or_default().parse());
    number.transpose().map_err(|_| ())
}

async fn generations(State(state): State<Shared>) -> Json<Vec<GenerationView>> {
    Json(state.generations())
}

/// A task of its own: hyper drops the handler when the client goes away, and a change is never left half-way.
async fn change(order: impl Future<Output = Result<ReloadReport, ReloadRefused>> + Send + 'static) -> Response {
    match tokio::spawn(order).await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(refused)) => config_refused(&refused),
        Err(failed) => {
            tracing::error!(error = %failed, "reload ended without an answer");
            error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the reload ended without an answer, see the log")
        }
    }
}

/// The body is the text of a config; nothing is changed by asking.
async fn diff(State(state): State<Shared>, text: String) -> Response {
    preview(&*state, Proposal::Text(text)).await
}

async fn rollback_diff(State(state): State<Shared>, Path(number): Path<String>) -> Response {
    match number.parse() {
        Ok(number) => preview(&*state, Proposal::Generation(number)).await,
        Err(_) => no_such_path().await,
    }
}

async fn preview(state: &dyn AdminState, of: Proposal) -> Response {
    match state.preview(of).await {
        Ok(preview) => Json(preview).into_response(),
        Err(refused) => config_refused(&refused),
    }
}

fn config_refused(refused: &ReloadRefused) -> Response {
    let body = json!({ "error": "config_refused", "detail": refused.to_string(), "problems": refused.problems });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

async fn drain(State(state): State<Shared>, names: Path<(String, String)>) -> Response {
    order(&*state, &names, DrainOrder::Drain)
}

async fn undrain(State(state): State<Shared>, names: Path<(String, String)>) -> Response {
    order(&*state, &names, DrainOrder::Undrain)
}

fn order(state: &dyn AdminState, names: &(String, String), order: DrainOrder) -> Response {
    let (service, endpoint) = names;
    match state.drain(service, endpoint, order) {
        Ok(()) => {
            let draining = order == DrainOrder::Drain;
            Json(json!({ "service": service, "endpoint": endpoint, "draining": draining })).into_response()
        }
        Err(missing) => error(StatusCode::NOT_FOUND, "not_found", &missing.to_string()),
    }
}

#[cfg(test)]
mod tests;
