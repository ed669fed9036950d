//! The bundled reference fleet: identical web containers that play the applications behind the proxy.
//!
//! A container says who it is in every answer, so a test can see where a request went; it fails on request, so a test
//! can see what the proxy makes of it; and it counts executions, so a request executed twice is seen. The fleet runs in
//! process ([`Fleet::start`]) or as the binary `upstream-mock`.
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

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod bare;
mod container;
pub mod control;
mod fault;
mod fleet;
pub mod grpc;
mod ledger;
mod socket;

pub use answer::checksum;
pub use bare::Bare;
pub use container::{Container, Health};
pub use fault::{Fault, FaultError};
pub use fleet::{Fleet, FleetOptions, StartError};
