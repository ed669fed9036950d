//! What the reference fleet promises, one test a promise.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bare;
mod client;
mod containers;
mod control;
mod executions;
mod faults;
mod grpc;
mod hub;
mod pages;
mod process;
mod websocket;
