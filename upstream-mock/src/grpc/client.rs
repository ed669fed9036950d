//! A client of `mock.Echo`, for tests.

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Error};
use tonic::{IntoRequest, IntoStreamingRequest, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{EchoReply, EchoRequest};

/// Calls `mock.Echo` through any channel. Clones share the channel.
#[derive(Clone, Debug)]
pub struct EchoClient {
    grpc: Grpc<Channel>,
}

impl EchoClient {
    /// Uses a channel that the caller made, with its own TLS or metadata.
    pub fn new(channel: Channel) -> Self {
        Self { grpc: Grpc::new(channel) }
    }

    /// Connects without TLS to a URI such as `http://127.0.0.1:9001`.
    ///
    /// # Errors
    /// When the URI is wrong or nobody listens there.
    pub async fn connect(uri: String) -> Result<Self, Error> {
        Ok(Self::new(Endpoint::from_shared(uri)?.connect().await?))
    }

    /// One request, one reply.
    ///
    /// # Errors
    /// The status that the container or the proxy answered.
    pub async fn say(&mut self, request: impl IntoRequest<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        self.ready().await?;
        self.grpc.unary(request.into_request(), PathAndQuery::from_static("/mock.Echo/Say"), codec()).await
    }

    /// One request, `count` replies.
    ///
    /// # Errors
    /// The status that was answered in place of a stream; the stream may end with another.
    pub async fn stream(
        &mut self,
        request: impl IntoRequest<EchoRequest>,
    ) -> Result<Response<Streaming<EchoReply>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/mock.Echo/Stream");
        self.grpc.server_streaming(request.into_request(), path, codec()).await
    }

    /// A reply to each request, while both go on.
    ///
    /// # Errors
    /// The status that was answered in place of a stream; the stream may end with another.
    pub async fn chat(
        &mut self,
        requests: impl IntoStreamingRequest<Message = EchoRequest>,
    ) -> Result<Response<Streaming<EchoReply>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/mock.Echo/Chat");
        self.grpc.streaming(requests.into_streaming_request(), path, codec()).await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

fn codec() -> ProstCodec<EchoRequest, EchoReply> {
    ProstCodec::default()
}
