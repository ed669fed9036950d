//! The control port: the same faults and counters as the library's, for whoever drives the fleet from outside.
//!
//! All answers are JSON. A change answers with the container as it is afterwards.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /containers` | every container: name, address, listening, health, fault, counters |
//! | `GET /containers/web-2` | one of them |
//! | `POST /containers/web-2/crash` | the port refuses and every connection is reset, as by kill -9 |
//! | `POST /containers/web-2/refuse` | the port refuses, open connections go on |
//! | `POST /containers/web-2/recover` | starts anew on the same port: healthy, without faults |
//! | `POST /containers/web-2/drain` | `/health` answers 503, connections close after their answer |
//! | `POST /containers/web-2/fault?kind=hang` | every request meets the fault: `kind=slow&value=500ms`, `kind=status&value=503`, … |
//! | `DELETE /containers/web-2/fault` | no more |
//! | `POST /containers/web-2/health?status=500&delay=1s` | what `/health` answers; what is not given stays |
//! | `GET /executions` | `{"keys": 2, "executions": {"a": 1, "b": 2}, "double": {"b": 2}}` |
//! | `GET /executions?key=b` | `{"key": "b", "executions": 2, "containers": {"web-1": 1, "web-3": 1}}` |
//! | `POST /reset-counters` | forgets executions and counts from zero |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::query::Query;
use crate::answer::{Body, json as answer, text};
use crate::container::Container;
use crate::fault::duration;
use crate::fleet::Members;

/// Serves the control port until `stop`.
pub(crate) async fn serve(members: Arc<Members>, listener: TcpListener, stop: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let (members, stop) = (members.clone(), stop.clone());
        let service = service_fn(move |request| respond(members.clone(), request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move { drop(stop.run_until_cancelled(connection).await) });
    }
}

/// The requests that the control port understands, one a line, for banners and help texts.
pub const PAGES: &str = "\
GET    /containers
GET    /containers/web-2
POST   /containers/web-2/crash | recover | refuse | drain
POST   /containers/web-2/fault?kind=hang
POST   /containers/web-2/fault?kind=slow&value=500ms
DELETE /containers/web-2/fault
POST   /containers/web-2/health?status=500&delay=1s
GET    /executions            GET /executions?key=KEY
POST   /reset-counters
";

enum Refusal {
    NotFound(String),
    BadRequest(String),
    Failed(String),
}

async fn respond(members: Arc<Members>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let query = Query::of(request.uri());
    let path: Vec<_> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
    let result = match (request.method(), path.as_slice()) {
        (&Method::GET, []) => return Ok(text(StatusCode::OK, Bytes::from_static(PAGES.as_bytes()))),
        (&Method::GET, ["containers"]) => Ok(members.containers.iter().map(described).collect()),
        (&Method::GET, ["executions"]) => Ok(executions(&members, query.get("key"))),
        (&Method::POST, ["reset-counters"]) => {
            members.reset_counters();
            Ok(json!({}))
        }
        (method, ["containers", name, rest @ ..]) => one(&members, name, (method, rest), &query).await,
        _ => Err(Refusal::NotFound(format!("there is no such page; there are\n{PAGES}"))),
    };
    Ok(match result {
        Ok(value) => answer(StatusCode::OK, &value),
        Err(refusal) => refused(&refusal),
    })
}

async fn one(
    members: &Members,
    name: &str,
    (method, path): (&Method, &[&str]),
    query: &Query,
) -> Result<Value, Refusal> {
    let container =
        members.container(name).ok_or_else(|| Refusal::NotFound(format!("there is no container {name}")))?;
    match (method, path) {
        (&Method::GET, []) => {}
        (&Method::POST, ["crash"]) => container.crash().await,
        (&Method::POST, ["refuse"]) => container.refuse().await,
        (&Method::POST, ["recover"]) => recover(container).await?,
        (&Method::POST, ["drain"]) => container.drain(),
        (&Method::POST, ["fault"]) => break_it(container, query).await?,
        (&Method::DELETE, ["fault"]) => container.clear_fault(),
        (&Method::POST, ["health"]) => set_health(container, query)?,
        _ => return Err(Refusal::NotFound(format!("there is no such page; there are\n{PAGES}"))),
    }
    Ok(described(container))
}

async fn recover(container: &Container) -> Result<(), Refusal> {
    container.recover().await.map_err(|error| Refusal::Failed(error.to_string()))
}

async fn break_it(container: &Container, query: &Query) -> Result<(), Refusal> {
    let kind = query.get("kind").ok_or_else(|| Refusal::BadRequest("kind is missing, as in kind=hang".to_owned()))?;
    let written = query.get("value").map_or_else(|| kind.to_owned(), |value| format!("{kind}={value}"));
    let fault = written.parse().map_err(|error: crate::FaultError| Refusal::BadRequest(error.to_string()))?;
    container.set_fault(fault).await;
    Ok(())
}

fn set_health(container: &Container, query: &Query) -> Result<(), Refusal> {
    let wrong = |what: &str| Refusal::BadRequest(format!("{what}, as in status=500&delay=1s"));
    if let Some(status) = query.get("status") {
        container.set_health(status.parse().map_err(|_| wrong("status is no status"))?);
    }
    if let Some(delay) = query.get("delay") {
        container.set_health_delay(duration(delay).ok_or_else(|| wrong("delay is no time"))?);
    }
    Ok(())
}

fn described(container: &Container) -> Value {
    let health = container.health();
    json!({
        "name": container.name(),
        "address": container.address().to_string(),
        "listening": container.is_listening(),
        "health": { "status": health.status.as_u16(), "delay_ms": health.delay.as_millis() },
        "fault": container.fault().map(|fault| fault.to_string()),
        "requests": container.requests(),
        "probes": container.probes(),
        "accepted": container.accepted(),
        "connections": container.connections(),
    })
}

fn executions(members: &Members, key: Option<&str>) -> Value {
    let Some(key) = key else {
        let all = members.ledger.all();
        return json!({
            "keys": all.len(),
            "executions": counts(all),
            "double": counts(members.ledger.doubled()),
        });
    };
    let by_container = members.containers.iter().map(|container| (container.name(), container.executions(key)));
    let by_container: Map<_, _> =
        by_container.filter(|&(_, count)| count > 0).map(|(name, count)| (name.to_owned(), count.into())).collect();
    json!({ "key": key, "executions": members.ledger.executions(key), "containers": by_container })
}

fn counts(counts: Vec<(String, u64)>) -> Map<String, Value> {
    counts.into_iter().map(|(key, count)| (key, count.into())).collect()
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let (status, why) = match refusal {
        Refusal::NotFound(why) => (StatusCode::NOT_FOUND, why),
        Refusal::BadRequest(why) => (StatusCode::BAD_REQUEST, why),
        Refusal::Failed(why) => (StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    answer(status, &json!({ "error": why }))
}

/// Serves the control port at this address in the background.
pub(crate) async fn start(
    members: Arc<Members>,
    address: SocketAddr,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(members, listener, stop));
    Ok(address)
}
