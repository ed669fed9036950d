//! The service `grpc.health.v1.Health`, answering what `/health` answers.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::container::Container;

/// The services that have a health: the container as a whole, and its echo.
const SERVICES: [&str; 2] = ["", "mock.Echo"];

/// The health of one container.
pub(super) struct HealthOf(pub(super) Container);

#[tonic::async_trait]
impl Health for HealthOf {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if !SERVICES.contains(&service.as_str()) {
            return Err(Status::not_found(format!("there is no service `{service}`")));
        }
        let health = self.0.health();
        tokio::time::sleep(health.delay).await;
        Ok(Response::new(response(serving(health))))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            // The protocol wants an open stream that says so.
            let unknown = stream::once(async { Ok(response(ServingStatus::ServiceUnknown)) });
            return Ok(Response::new(unknown.chain(stream::pending()).boxed()));
        }
        let changes = stream::unfold((self.0.watch_health(), None), |(mut health, told)| async move {
            let now = loop {
                let now = serving(*health.borrow_and_update());
                if told != Some(now) {
                    break now;
                }
                health.changed().await.ok()?;
            };
            Some((Ok(response(now)), (health, Some(now))))
        });
        Ok(Response::new(changes.boxed()))
    }
}

fn serving(health: crate::Health) -> ServingStatus {
    if health.status.as_u16() < 400 { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
