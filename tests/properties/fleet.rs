//! The fleet that is played: what becomes of an attempt is drawn, takes simulated time, and is told to the model.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use http::Response;
use tokio::time::{Instant, sleep_until};
use waypost::failover::{Attempted, Courier};
use waypost::reply::Cause;
use waypost::snapshot::Snapshot;
use waypost::upstream::attempt::{Failure, Parcel};
use waypost::upstream::retry;
use waypost::upstream::{Endpoint, Incoming, Service};
use waypost_config::value::RetryOn;

use crate::life::Time;
use crate::model::{Model, Outcome};

/// All that the requests of a history share.
#[derive(Debug)]
pub(crate) struct World {
    begun: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) model: Model,
    pub(crate) rng: Rng,
    pub(crate) snapshot: Arc<Snapshot>,
    /// How badly each endpoint does, by number, in sixteenths.
    pub(crate) illness: [u8; 8],
}

/// What an endpoint does with a request.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Refuses,
    ClosesAtOnce,
    Resets,
    SpeaksNonsense,
    Hangs,
    Answers(u16),
    /// The client broke off its upload.
    Suffers,
}

const FAILURES: [Deed; 8] = [
    Deed::Refuses,
    Deed::ClosesAtOnce,
    Deed::Resets,
    Deed::SpeaksNonsense,
    Deed::Hangs,
    Deed::Answers(500),
    Deed::Answers(503),
    Deed::Suffers,
];

impl World {
    pub(crate) fn new(snapshot: Arc<Snapshot>, rng: Rng) -> World {
        let inner = Inner { model: Model::default(), rng, snapshot, illness: [0; 8] };
        World { begun: Instant::now(), inner: Mutex::new(inner) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Time {
        self.begun.elapsed()
    }
}

impl Inner {
    pub(crate) fn service(&self) -> Arc<Service> {
        Arc::clone(&self.snapshot.services["shop"])
    }

    /// The end of an ejection is noticed by whoever looks first: here by everybody, at every step.
    pub(crate) fn look_around(&mut self) {
        let service = self.service();
        for endpoint in &service.endpoints {
            endpoint.is_ejected();
            let generation = self.model.generations.last().expect("there is one");
            let life = generation.lives[&*endpoint.name];
            self.model.counts(&endpoint.name, life, endpoint.live.load.load(std::sync::atomic::Ordering::Relaxed));
        }
        self.model.counts_service(service.live.in_flight.load(std::sync::atomic::Ordering::Relaxed));
    }

    fn deed(&mut self, endpoint: &Endpoint) -> (Deed, Duration) {
        let number: usize = endpoint.name.trim_start_matches("web-").parse().expect("web-N");
        let ill = self.rng.u8(..16) < self.illness[number];
        let deed = if ill { *self.rng.choice(&FAILURES).expect("not empty") } else { Deed::Answers(200) };
        (deed, Duration::from_millis(self.rng.u64(..120)))
    }
}

/// Carries the attempts of one request.
pub(crate) struct Played {
    pub(crate) world: Arc<World>,
    pub(crate) id: u64,
}

impl Courier for Played {
    async fn carry(&self, endpoint: &Endpoint, parcel: &Parcel<'_>) -> Attempted {
        let (deed, takes) = {
            let mut inner = self.world.lock();
            inner.model.attempts(self.id, &endpoint.name, self.world.now());
            inner.look_around();
            inner.deed(endpoint)
        };
        let result = done(deed, takes, endpoint, parcel).await;
        let mut inner = self.world.lock();
        inner.look_around();
        inner.model.became(self.id, outcome(&result), self.world.now());
        result
    }
}

async fn done(deed: Deed, takes: Duration, endpoint: &Endpoint, parcel: &Parcel<'_>) -> Attempted {
    let limit = parcel.begun + parcel.patience.response;
    let (limit, cause) = match parcel.patience.deadline {
        Some(deadline) if deadline <= limit => (deadline, Cause::RequestTimeout),
        _ => (limit, Cause::AttemptTimeout),
    };
    let ready = Instant::now() + takes;
    let hangs = matches!(deed, Deed::Hangs) || ready >= limit;
    sleep_until(if hangs { limit } else { ready }).await;
    let failure = |cause: Cause, sent: bool| Err(Failure::new(cause, String::new(), sent));
    match deed {
        _ if hangs => failure(cause, true),
        Deed::Refuses => failure(Cause::ConnectFailed, false),
        Deed::ClosesAtOnce => failure(Cause::UpstreamReset, false),
        Deed::Resets | Deed::Hangs => failure(Cause::UpstreamReset, true),
        Deed::SpeaksNonsense => failure(Cause::UpstreamInvalid, true),
        Deed::Suffers => failure(Cause::BadRequest, true),
        Deed::Answers(status) => {
            let body = Incoming::Http1 { http1: None, pool: Arc::clone(&endpoint.pool) };
            Ok(Response::builder().status(status).body(body).expect("a status"))
        }
    }
}

fn outcome(result: &Attempted) -> Outcome {
    match result {
        Ok(response) => Outcome { on: Some(RetryOn::Status(response.status().as_u16())), sent: true, cause: None },
        Err(failure) => Outcome { on: retry::kind_of(failure.cause), sent: failure.sent, cause: Some(failure.cause) },
    }
}
