//! Which endpoint did this client have before?
//!
//! Holds a client to an endpoint's *name*, in a sealed cookie of the client's or in a table of ours. Whether that
//! endpoint still takes the client is not decided here.

mod client_ip;
mod cookie;

pub use self::client_ip::ClientIpPins;
pub use self::cookie::{ClientConnection, CookiePins, Pin, ProcessKey};
