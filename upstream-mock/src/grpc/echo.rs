//! The service `mock.Echo`: unary, server streaming and bidirectional.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use http::Response;
use hyper::body::Incoming;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{EchoReply, EchoRequest};
use crate::answer::{Visit, book};

const FAIL_WITH: &str = "x-mock-grpc-status";

type Replies = BoxStream<'static, Result<EchoReply, Status>>;

/// Sends a call to its method.
pub(super) async fn call(visit: &Arc<Visit>, request: http::Request<Incoming>) -> Response<tonic::body::Body> {
    let echo = Echo(visit.clone());
    let mut grpc = Grpc::new(ProstCodec::<EchoReply, EchoRequest>::default());
    match request.uri().path() {
        "/mock.Echo/Say" => grpc.unary(echo, request).await,
        "/mock.Echo/Stream" => grpc.server_streaming(echo, request).await,
        "/mock.Echo/Chat" => grpc.streaming(echo, request).await,
        other => Status::unimplemented(format!("{other} is no method of mock.Echo")).into_http(),
    }
}

/// The service on one connection.
struct Echo(Arc<Visit>);

impl Echo {
    /// Takes note of a call whose request is there.
    fn executed(&self, metadata: &MetadataMap) {
        book(&self.0, metadata.as_ref());
    }

    fn container(&self) -> String {
        self.0.container.name().to_owned()
    }
}

impl UnaryService<EchoRequest> for Echo {
    type Response = EchoReply;
    type Future = BoxFuture<'static, Result<tonic::Response<EchoReply>, Status>>;

    fn call(&mut self, request: Request<EchoRequest>) -> Self::Future {
        self.executed(request.metadata());
        let reply = match asked_status(request.metadata()) {
            Some(status) => Err(status),
            None => Ok(reply(&request.get_ref().text, &self.container(), 1)),
        };
        async move { reply.map(tonic::Response::new) }.boxed()
    }
}

impl ServerStreamingService<EchoRequest> for Echo {
    type Response = EchoReply;
    type ResponseStream = Replies;
    type Future = BoxFuture<'static, Result<tonic::Response<Replies>, Status>>;

    fn call(&mut self, request: Request<EchoRequest>) -> Self::Future {
        self.executed(request.metadata());
        let failure = asked_status(request.metadata());
        let (container, request) = (self.container(), request.into_inner());
        let replies = (1..=request.count.max(1)).map(move |number| Ok(reply(&request.text, &container, number)));
        replying(stream::iter(replies).boxed(), failure)
    }
}

impl StreamingService<EchoRequest> for Echo {
    type Response = EchoReply;
    type ResponseStream = Replies;
    type Future = BoxFuture<'static, Result<tonic::Response<Replies>, Status>>;

    fn call(&mut self, request: Request<Streaming<EchoRequest>>) -> Self::Future {
        self.executed(request.metadata());
        let failure = asked_status(request.metadata());
        let container = self.container();
        let numbered = request.into_inner().zip(stream::iter(1..));
        let replies = numbered.map(move |(said, number)| Ok(reply(&said?.text, &container, number)));
        replying(replies.boxed(), failure)
    }
}

/// The replies, then the failure if one was asked for: it travels in the trailers.
fn replying(replies: Replies, failure: Option<Status>) -> BoxFuture<'static, Result<tonic::Response<Replies>, Status>> {
    let replies = replies.chain(stream::iter(failure.map(Err))).boxed();
    async move { Ok(tonic::Response::new(replies)) }.boxed()
}

fn reply(text: &str, container: &str, number: u32) -> EchoReply {
    EchoReply { text: text.to_owned(), container: container.to_owned(), number }
}

fn asked_status(metadata: &MetadataMap) -> Option<Status> {
    let code = metadata.get(FAIL_WITH)?.to_str().ok()?.parse().ok()?;
    Some(Status::new(Code::from_i32(code), "as asked"))
}
