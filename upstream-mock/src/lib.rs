//! The bundled reference fleet: identical web containers that play the applications behind the proxy.
//!
//! A container says who it is in every answer, so a test can see where a request went; it fails on request, so a test
//! can see what the proxy makes of it; and it counts executions, so a request executed twice is seen. The fleet runs in
//! process ([`Fleet::start`]) or as the binary `upstream-mock`, HTTP/1.1 and HTTP/2 (prior knowledge) on the same port.
//!
//! ```
//! # async fn example() -> Result<(), upstream_mock::StartError> {
//! use upstream_mock::{Fleet, FleetOptions};
//!
//! let fleet = Fleet::start(FleetOptions::default()).await?; // web-1, web-2 and web-3 on free ports
//! let web2 = fleet.container("web-2").expect("the default fleet has a web-2");
//! println!("http://{}", web2.address());
//! web2.crash().await; // connections reset, the port refuses
//! web2.recover().await; // the same port answers again
//! # Ok(())
//! # }
//! ```
//!
//! # Pages
//!
//! Every answer carries `x-upstream: web-1` and `x-served-count`.
//!
//! | page | what it answers |
//! |---|---|
//! | `/` | a small text with the container's name |
//! | `/health` | [`Container::set_health`]'s status after [`Container::set_health_delay`] |
//! | `/echo` | the request as JSON: headers in order with duplicates, body as text or base64, version, peer |
//! | `/upload` | length and [`checksum`] of the body, which is not kept |
//! | `/early?status=413` | an answer before the end of the upload |
//! | `/bytes/N`, `/chunked/N?chunk=1024` | the alphabet over and over, with and without a content-length |
//! | `/trickle?bytes=10&every=100ms` | a byte at a time |
//! | `/delay/250ms`, `/status/503?retry_after=1`, `/headers?name=value` | what they say |
//! | `/trailers` | a body with the trailer `x-mock-trailer` (HTTP/1.1: only after `TE: trailers`) |
//! | `/sse?every=100ms&count=10` | server-sent events |
//! | `/ws?close_after=3` | a WebSocket (HTTP/1.1 upgrade or RFC 8441) that says the name, then echoes |
//! | `POST /hub/negotiate` | a connection id that only this container knows; elsewhere it is 404 |
//! | `/hub?id=`, `/hub/sse?id=`, `/hub/poll?id=&timeout=10s` | WebSocket, events, long poll: what was sent to the id |
//! | `POST /hub/send?id=` | sends its body to the id |
//! | `mock.Echo`, `grpc.health.v1.Health` | [`grpc`] |
//!
//! # Faults
//!
//! The header `x-mock-fault: reset_in_body` breaks the answer to one request, on the containers that `x-mock-on: web-1,
//! web-2` names or, without it, on any: see [`Fault`]. [`Container::set_fault`] and the [`control`] port break all.
//!
//! A [`Script`] is a list of faults over time, as TOML or from a seed.
//!
//! # Executions
//!
//! A request with an `Idempotency-Key`, or with an `x-request-key` (of which a proxy knows nothing), is counted when the
//! container has received all of it, also if the answer is lost then. [`Fleet::double_executions`] has to stay empty.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod bare;
mod container;
pub mod control;
mod fault;
mod fleet;
mod frost;
pub mod grpc;
mod ledger;
pub mod script;
mod socket;

pub use answer::checksum;
pub use bare::Bare;
pub use container::{Container, Health};
pub use fault::{Fault, FaultError};
pub use fleet::{Fleet, FleetOptions, StartError};
pub use script::Script;
