//! Where to, and how is it doing?

pub mod balancer;
pub mod health;
pub mod retry_budget;
pub mod sticky;
