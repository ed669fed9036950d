//! The fleet: several containers that share one book of executions.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::container::{Birth, Container};
use crate::control;
use crate::ledger::Ledger;

/// What to start.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// One container for each name.
    pub names: Vec<String>,
    /// The address on which all of them listen.
    pub host: IpAddr,
    /// The port of the first; the others follow it. 0 gives each a free one.
    pub base_port: u16,
    /// The port of the [control API](crate::control) on the same address; 0 gives it a free one, `None` leaves it out.
    pub control_port: Option<u16>,
}

impl FleetOptions {
    /// `count` containers named `prefix-1`, `prefix-2`, …, on loopback and free ports.
    pub fn numbered(prefix: &str, count: usize) -> Self {
        Self {
            names: (1..=count).map(|number| format!("{prefix}-{number}")).collect(),
            host: Ipv4Addr::LOCALHOST.into(),
            base_port: 0,
            control_port: None,
        }
    }
}

/// web-1, web-2 and web-3 on free ports of loopback.
impl Default for FleetOptions {
    fn default() -> Self {
        Self::numbered("web", 3)
    }
}

/// Why a fleet did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ports after `base_port` end before the containers do.
    #[error("there are not {count} ports from {base_port} on")]
    Ports {
        /// Where the fleet should begin.
        base_port: u16,
        /// How many containers it should have.
        count: usize,
    },
    /// Two containers would have the same name.
    #[error("two containers are named {0}")]
    Name(String),
    /// An address could not be opened.
    #[error("{name} cannot listen on {address}")]
    Listen {
        /// Who should listen there.
        name: String,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A running fleet. Dropping it stops all of it at once.
#[derive(Debug)]
pub struct Fleet {
    members: Arc<Members>,
    control: Option<SocketAddr>,
    stop: CancellationToken,
}

/// What the fleet and its control port know in common.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) containers: Vec<Container>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Members {
    pub(crate) fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name() == name)
    }

    pub(crate) fn reset_counters(&self) {
        self.ledger.clear();
        self.containers.iter().for_each(Container::reset_counters);
    }
}

impl Fleet {
    /// Starts all containers on the current tokio runtime; they listen when this returns.
    ///
    /// # Errors
    /// When an address cannot be opened or a name is taken twice; nothing is left running then.
    pub async fn start(options: FleetOptions) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        // Whatever has started ends with the guard when something after it does not start.
        let guard = stop.clone().drop_guard();
        let members = Arc::new(start_containers(&options, &stop)?);
        let control = match options.control_port {
            Some(port) => Some(start_control(&members, SocketAddr::new(options.host, port), &stop).await?),
            None => None,
        };
        guard.disarm();
        Ok(Self { members, control, stop })
    }

    /// All containers, in the order of their names in the options.
    pub fn containers(&self) -> &[Container] {
        &self.members.containers
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.members.container(name)
    }

    /// Where the [control API](crate::control) listens, if it was asked for.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// How often the request with this `Idempotency-Key` or `x-request-key` was executed, by whichever container.
    pub fn executions(&self, key: &str) -> u64 {
        self.members.ledger.executions(key)
    }

    /// Every key that was executed more than once, with its executions.
    pub fn double_executions(&self) -> Vec<(String, u64)> {
        self.members.ledger.doubled()
    }

    /// Forgets all executions and sets every counter to zero.
    pub fn reset_counters(&self) {
        self.members.reset_counters();
    }

    /// Stops in order: ports close, requests in flight get their answers for at most `grace`, then all ends.
    pub async fn stop(self, grace: Duration) {
        let stopped = join_all(self.containers().iter().map(Container::stop));
        // Whether all finished or time ran out, dropping ends what is left.
        drop(tokio::time::timeout(grace, stopped).await);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start_containers(options: &FleetOptions, stop: &CancellationToken) -> Result<Members, StartError> {
    let count = options.names.len();
    let mut members = Members { containers: Vec::with_capacity(count), ledger: Arc::default() };
    for (index, name) in options.names.iter().enumerate() {
        if members.container(name).is_some() {
            return Err(StartError::Name(name.clone()));
        }
        let port = port(options.base_port, index).ok_or(StartError::Ports { base_port: options.base_port, count })?;
        let address = SocketAddr::new(options.host, port);
        let (ledger, stop) = (members.ledger.clone(), stop.child_token());
        let container = Container::start(Birth { name: name.clone(), index, address, ledger, stop })
            .map_err(|source| StartError::Listen { name: name.clone(), address, source })?;
        members.containers.push(container);
    }
    Ok(members)
}

async fn start_control(
    members: &Arc<Members>,
    address: SocketAddr,
    stop: &CancellationToken,
) -> Result<SocketAddr, StartError> {
    control::start(members.clone(), address, stop.clone()).await.map_err(|source| StartError::Listen {
        name: "the control port".to_owned(),
        address,
        source,
    })
}

fn port(base: u16, index: usize) -> Option<u16> {
    if base == 0 {
        return Some(0);
    }
    base.checked_add(u16::try_from(index).ok()?)
}
