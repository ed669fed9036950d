//! gRPC: an echo service and the standard health service, and a client of the echo for tests.
//!
//! The messages are written by hand as prost structs, so that no protoc is needed. In their own language they would be:
//!
//! ```proto
//! package mock;
//! service Echo {
//!   rpc Say (EchoRequest) returns (EchoReply);
//!   rpc Stream (EchoRequest) returns (stream EchoReply);
//!   rpc Chat (stream EchoRequest) returns (stream EchoReply);
//! }
//! message EchoRequest { string text = 1; uint32 count = 2; }
//! message EchoReply { string text = 1; string container = 2; uint32 number = 3; }
//! ```
//!
//! The metadata `x-mock-grpc-status: 14` makes a call fail with that status: `Say` in the headers (trailers only), the
//! streaming calls in the trailers after their messages.

mod client;
mod echo;
mod health;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::codegen::Service;
use tonic_health::pb::health_server::HealthServer;

pub use self::client::EchoClient;
use self::health::HealthOf;
use crate::answer::{Body, Visit, boxed};

/// What a client of `mock.Echo` says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EchoRequest {
    /// Comes back in every reply.
    #[prost(string, tag = "1")]
    pub text: String,
    /// How many replies `Stream` sends; 0 means one.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

/// What `mock.Echo` answers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EchoReply {
    /// The text of the request.
    #[prost(string, tag = "1")]
    pub text: String,
    /// The name of the container that answers.
    #[prost(string, tag = "2")]
    pub container: String,
    /// Which reply of its call this is, from 1.
    #[prost(uint32, tag = "3")]
    pub number: u32,
}

/// Whether the request is for the echo service.
pub(crate) fn is_echo(request: &Request<Incoming>) -> bool {
    request.uri().path().starts_with("/mock.Echo/")
}

/// Whether the request is for the health service.
pub(crate) fn is_probe(request: &Request<Incoming>) -> bool {
    request.uri().path().starts_with("/grpc.health.v1.Health/")
}

/// Answers a call of the echo service.
pub(crate) async fn echo(visit: &Arc<Visit>, request: Request<Incoming>) -> Response<Body> {
    echo::call(visit, request).await.map(boxed)
}

/// Answers a call of the health service from what `/health` would say.
pub(crate) async fn probe(visit: &Visit, request: Request<Incoming>) -> Response<Body> {
    let mut server = HealthServer::new(HealthOf(visit.container.clone()));
    match server.call(request).await {
        Ok(response) => response.map(boxed),
        Err(never) => match never {},
    }
}
