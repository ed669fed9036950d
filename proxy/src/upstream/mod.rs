//! Where to, and how is it doing?
//!
//! Owns the fleets: [`Service`] picks, [`Endpoint`] remembers how it is doing, [`Pool`] keeps idle connections,
//! [`attempt`] carries one request there, [`retry`] says whether another attempt may follow. Never routes and never
//! answers a client.

pub mod service;
pub mod endpoint;
pub mod balancer;
pub mod sticky;
pub mod attempt;
pub mod alarm;
pub mod incoming;
pub mod retry;
pub mod retry_budget;
pub mod pool;
pub mod connect;
pub mod hash_key;
pub mod health;
pub mod standing;

pub use endpoint::Endpoint;
pub use incoming::Incoming;
pub use pool::Pool;
pub use service::Service;
