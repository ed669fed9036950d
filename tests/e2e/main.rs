//! The promises, one module each.

// A test that unwraps has failed; counters are whole numbers.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

mod balancing;
mod crash;
mod endpoint_drain;
mod forwarding;
mod health;
mod middlewares;
mod outlier;
mod retry;
mod round_robin;
mod routing;
mod sticky_client_ip;
mod sticky_cookie;

// Change: reload, drain, load; and all of it at random.
mod chaos;
mod drain;
mod explain;
mod failover_under_load;
mod receipts;
mod reload_applies;
mod reload_keeps_state;
mod reload_large;
mod reload_leaves_nothing_behind;
mod reload_recovers;
mod reload_refused;
mod reload_removed_endpoint;
mod reload_triggers;
mod reload_under_load;

mod access_log;
mod admin;
mod dashboard;
mod floods;
mod full_disk;
mod grpc;
mod guard;
mod hostile_http2;
mod hostile_requests;
mod hostile_responses;
mod http2;
mod limits;
mod observability;
mod pool;
mod proxy_protocol;
mod slow_readers;
mod streaming;
mod testssl;
mod tls;
mod traces;
mod websocket;
