//! What is done to the fleet while the load runs, and what the fleet is asked afterwards.
//!
//! Owns the words of an event (`crash web-2`) and their translation into requests to the reference fleet's control
//! port. Never decides when: that is the scenario's.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::{
    plan::{PlanError, Target},
    report::Audit,
};

/// The control port must answer within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something to be done to one container of the fleet, or to anybody by a POST.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Action {
    /// `crash web-2`: stops listening and resets what is open.
    Crash(String),
    /// `recover web-2`: comes back after a crash.
    Recover(String),
    /// `refuse web-2`: stops listening; open connections go on.
    Refuse(String),
    /// `drain web-2`: health answers 503, connections close after their answer.
    Drain(String),
    /// `fault web-2 hang`, `fault web-2 slow=500ms`: requests fail in the named way.
    Fault(String, String),
    /// `clear web-2`: ends the fault.
    Clear(String),
    /// `health web-2 500`: the health check answers so.
    Health(String, u16),
    /// `post http://127.0.0.1:9900/api/reload`: a POST without a body; 2xx is success.
    Post(String),
}

/// A text that is no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no action: write crash NAME, recover NAME, refuse NAME, drain NAME, fault NAME KIND, clear NAME, \
     health NAME STATUS or post URL"
)]
pub struct ActionError(String);

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Happened {
    /// Planned seconds from the start.
    pub at: f64,
    /// The action, which worked: one that fails ends the scenario.
    pub action: String,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The URL is of no use.
    #[error(transparent)]
    Url(#[from] PlanError),
    /// Events need plain HTTP.
    #[error("{0}: only http:// can be called")]
    Tls(String),
    /// Nobody there.
    #[error("{url}: {error}")]
    Connect {
        /// What was called.
        url: String,
        /// Why it failed.
        error: std::io::Error,
    },
    /// Not a whole answer.
    #[error("{url}: {error}")]
    Http {
        /// What was called.
        url: String,
        /// Why it failed.
        error: hyper::Error,
    },
    /// An answer other than 2xx.
    #[error("{url}: status {status}")]
    Status {
        /// What was called.
        url: String,
        /// What it said.
        status: u16,
    },
    /// Not what `/executions` should say.
    #[error("{url}: {why}")]
    Answer {
        /// What was called.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// No answer in time.
    #[error("{0}: no answer within 10 s")]
    Timeout(String),
}

impl Action {
    /// What to call; `control` is the base URL of the fleet's control port.
    pub fn call(&self, control: &str) -> (Method, String) {
        let base = control.trim_end_matches('/');
        let url = match self {
            Self::Crash(name) => format!("{base}/containers/{name}/crash"),
            Self::Recover(name) => format!("{base}/containers/{name}/recover"),
            Self::Refuse(name) => format!("{base}/containers/{name}/refuse"),
            Self::Drain(name) => format!("{base}/containers/{name}/drain"),
            Self::Fault(name, fault) => match fault.split_once('=') {
                Some((kind, value)) => format!("{base}/containers/{name}/fault?kind={kind}&value={value}"),
                None => format!("{base}/containers/{name}/fault?kind={fault}"),
            },
            Self::Clear(name) => format!("{base}/containers/{name}/fault"),
            Self::Health(name, status) => format!("{base}/containers/{name}/health?status={status}"),
            Self::Post(url) => url.clone(),
        };
        (if matches!(self, Self::Clear(_)) { Method::DELETE } else { Method::POST }, url)
    }

    /// Whether it goes to the control port.
    pub fn needs_control(&self) -> bool {
        !matches!(self, Self::Post(_))
    }

    /// Does it.
    pub async fn perform(&self, control: &str) -> Result<(), CallError> {
        let (method, url) = self.call(control);
        call(method, &url).await.map(drop)
    }
}

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        let words: Vec<_> = text.split_whitespace().collect();
        Ok(match words[..] {
            ["crash", name] => Self::Crash(name.to_owned()),
            ["recover", name] => Self::Recover(name.to_owned()),
            ["refuse", name] => Self::Refuse(name.to_owned()),
            ["drain", name] => Self::Drain(name.to_owned()),
            ["fault", name, kind] => Self::Fault(name.to_owned(), kind.to_owned()),
            ["clear", name] => Self::Clear(name.to_owned()),
            ["health", name, status] => {
                Self::Health(name.to_owned(), status.parse().map_err(|_| ActionError(text.to_owned()))?)
            }
            ["post", url] if url.starts_with("http://") => Self::Post(url.to_owned()),
            _ => return Err(ActionError(text.to_owned())),
        })
    }
}

impl TryFrom<String> for Action {
    type Error = ActionError;

    fn try_from(text: String) -> Result<Self, ActionError> {
        text.parse()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(name) => write!(f, "crash {name}"),
            Self::Recover(name) => write!(f, "recover {name}"),
            Self::Refuse(name) => write!(f, "refuse {name}"),
            Self::Drain(name) => write!(f, "drain {name}"),
            Self::Fault(name, kind) => write!(f, "fault {name} {kind}"),
            Self::Clear(name) => write!(f, "clear {name}"),
            Self::Health(name, status) => write!(f, "health {name} {status}"),
            Self::Post(url) => write!(f, "post {url}"),
        }
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s {}", self.at, self.action)
    }
}

/// Asks the fleet at `control` which keys that begin with `prefix` it has executed, and how often.
pub async fn audit(control: &str, prefix: &str) -> Result<Audit, CallError> {
    let url = format!("{}/executions", control.trim_end_matches('/'));
    let answer = call(Method::GET, &url).await?;
    let ledger: Ledger =
        serde_json::from_slice(&answer).map_err(|error| CallError::Answer { url, why: error.to_string() })?;
    let own = ledger.executions.iter().filter(|(key, _)| key.starts_with(prefix));
    let (executed, double_executions) =
        own.fold((0, 0), |(all, double), (_, count)| (all + u64::from(*count > 0), double + u64::from(*count > 1)));
    Ok(Audit { executed, double_executions })
}

/// The part of `/executions` that matters here: how often each key was executed.
#[derive(Deserialize)]
struct Ledger {
    executions: BTreeMap<String, u64>,
}

/// One request on a connection of its own; the body of a 2xx answer.
async fn call(method: Method, url: &str) -> Result<Bytes, CallError> {
    let answer = tokio::time::timeout(PATIENCE, call_patiently(method, url)).await;
    answer.unwrap_or_else(|_| Err(CallError::Timeout(url.to_owned())))
}

async fn call_patiently(method: Method, url: &str) -> Result<Bytes, CallError> {
    let (target, path) = Target::parse(url)?;
    if target.tls {
        return Err(CallError::Tls(url.to_owned()));
    }
    let http = |error| CallError::Http { url: url.to_owned(), error };
    let stream = TcpStream::connect((target.host(), target.port()))
        .await
        .map_err(|error| CallError::Connect { url: url.to_owned(), error })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, target.authority.as_str())
        .header(header::CONTENT_LENGTH, 0)
        .body(Empty::<Bytes>::new())
        .expect("made of parsed parts");
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    // The connection does the work of the exchange, so both are polled here and nothing is left behind.
    let connection = async {
        // What breaks the connection breaks the exchange too, and is told there.
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    let (status, body) = tokio::select! {
        done = exchange => done.map_err(http)?,
        () = connection => unreachable!("it stays pending"),
    };
    if status.is_success() { Ok(body) } else { Err(CallError::Status { url: url.to_owned(), status: status.as_u16() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, url: &str) {
        let action: Action = text.parse().unwrap();
        let (method, called) = action.call("http://127.0.0.1:10000/");
        assert_eq!(called, url);
        assert_eq!(method == Method::DELETE, text.starts_with("clear"), "{text}: {method}");
        assert_eq!(action.to_string(), text);
    }

    #[test]
    fn actions_become_calls_of_the_control_port() {
        check("crash web-2", "http://127.0.0.1:10000/containers/web-2/crash");
        check("recover web-2", "http://127.0.0.1:10000/containers/web-2/recover");
        check("fault web-2 hang", "http://127.0.0.1:10000/containers/web-2/fault?kind=hang");
        check("fault web-2 slow=1s", "http://127.0.0.1:10000/containers/web-2/fault?kind=slow&value=1s");
        check("refuse web-2", "http://127.0.0.1:10000/containers/web-2/refuse");
        check("drain web-2", "http://127.0.0.1:10000/containers/web-2/drain");
        check("clear web-2", "http://127.0.0.1:10000/containers/web-2/fault");
        check("health web-2 500", "http://127.0.0.1:10000/containers/web-2/health?status=500");
        check("post http://127.0.0.1:9900/api/reload", "http://127.0.0.1:9900/api/reload");
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["", "crash", "crash web-1 web-2", "explode web-2", "health web-2 ill", "post ftp://x"] {
            assert!(text.parse::<Action>().is_err(), "{text}");
        }
    }
}
