//! What the proxy says of itself: its metrics, many times a second.
//!
//! Owns which series are looked at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// From one sample to the next.
const EVERY: Duration = Duration::from_millis(40);
/// A page that takes longer is left out.
const PATIENCE: Duration = Duration::from_secs(5);

/// The endpoints at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// When the page was there.
    pub at: Duration,
    /// Tells one process from the next.
    pub process: String,
    /// By name.
    pub endpoints: BTreeMap<String, EndpointSample>,
}

/// One endpoint at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndpointSample {
    /// `checking`, `up` or `down`.
    pub state: String,
    /// Changes of health so far.
    pub transitions: i64,
    /// Requests that it is working on.
    pub in_flight: i64,
    /// Attempts that are over.
    pub attempts: i64,
}

/// Takes samples until told to stop.
pub async fn watch(admin: SocketAddr, begin: Instant, stop: CancellationToken) -> Vec<Sample> {
    let mut samples = Vec::new();
    while stop.run_until_cancelled(sleep(EVERY)).await.is_some() {
        // While one process follows another there may be no page.
        if let Ok(text) = page(admin).await {
            samples.push(Sample { at: begin.elapsed(), ..read(&text) });
        }
    }
    samples
}

/// The page of metrics.
pub async fn page(admin: SocketAddr) -> anyhow::Result<String> {
    timeout(PATIENCE, get(admin, "/metrics")).await?
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri(path).header("host", address.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "status {}", response.status());
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    // What is here is whole; how the connection ends after it does not matter.
    drop(connection.await);
    Ok(String::from_utf8(body.into())?)
}

/// The name, a function that finds labels, and the value of each series.
fn series(page: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        Some((name, labels, value))
    })
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

fn read(page: &str) -> Sample {
    let mut sample = Sample::default();
    for (name, labels, value) in series(page) {
        if name == "process_start_time_seconds" {
            value.clone_into(&mut sample.process);
        }
        let Some(endpoint) = label(labels, "endpoint") else { continue };
        let endpoint = sample.endpoints.entry(endpoint.to_owned()).or_default();
        // Sums of buckets and seconds are no whole numbers, and none of ours.
        let count: i64 = value.parse().unwrap_or_default();
        match name {
            "waypost_endpoint_state" if count > 0 => {
                label(labels, "state").unwrap_or_default().clone_into(&mut endpoint.state);
            }
            "waypost_health_transitions_total" => endpoint.transitions += count,
            "waypost_endpoint_requests_in_flight" => endpoint.in_flight += count,
            "waypost_attempts_total" => endpoint.attempts += count,
            _ => {}
        }
    }
    sample
}

/// Gauges that are not zero although nothing is in flight, and counters that must never move.
pub fn residue(page: &str) -> Vec<String> {
    let must_be_zero = |name: &str, labels: &str| match name {
        "waypost_requests_in_flight"
        | "waypost_endpoint_requests_in_flight"
        | "waypost_endpoint_connections_open"
        | "waypost_access_log_write_errors_total" => true,
        "waypost_connections_open" => label(labels, "listener") == Some("web"),
        "waypost_reloads_total" => label(labels, "result") == Some("refused"),
        _ => false,
    };
    let left = series(page).filter(|(name, labels, value)| *value != "0" && must_be_zero(name, labels));
    left.map(|(name, labels, value)| format!("{name}{{{labels} {value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP x y\nprocess_start_time_seconds 17.5\n\
        waypost_endpoint_state{service=\"shop\",endpoint=\"web-1\",state=\"up\"} 0\n\
        waypost_endpoint_state{service=\"shop\",endpoint=\"web-1\",state=\"down\"} 1\n\
        waypost_attempts_total{service=\"shop\",endpoint=\"web-1\",outcome=\"response\"} 3\n\
        waypost_attempts_total{service=\"shop\",endpoint=\"web-1\",outcome=\"upstream_reset\"} 2\n\
        waypost_connections_open{listener=\"web\"} 1\n";

    #[test]
    fn page_is_read_by_endpoint() {
        let sample = read(PAGE);
        let endpoint = EndpointSample { state: "down".to_owned(), attempts: 5, ..EndpointSample::default() };
        assert_eq!(sample.endpoints, [("web-1".to_owned(), endpoint)].into());
        assert_eq!(sample.process, "17.5");
    }

    #[test]
    fn what_is_not_at_rest_is_named() {
        assert_eq!(residue(PAGE), ["waypost_connections_open{listener=\"web\"} 1"]);
    }
}
