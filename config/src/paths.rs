//! The files a configuration points at.
//!
//! Owns the list of them, in one place, so that none is resolved but not watched.

use std::path::{Path, PathBuf};

use crate::service::UpstreamTls;
use crate::telemetry::AccessLogPath;
use crate::{Config, Listener};

/// The configuration with every relative file name made to start at the directory.
pub(crate) fn resolve(mut config: Config, directory: &Path) -> Config {
    for path in inputs(&mut config) {
        *path = directory.join(&*path);
    }
    for path in outputs(&mut config) {
        *path = directory.join(&*path);
    }
    config
}

/// The files it is read from.
pub(crate) fn of(config: &Config) -> Vec<PathBuf> {
    inputs(&mut config.clone()).into_iter().map(std::mem::take).collect()
}

fn inputs(config: &mut Config) -> Vec<&mut PathBuf> {
    let listeners = config.listeners.values_mut().flat_map(listener_inputs);
    let services = config.services.values_mut().flat_map(|service| tls_inputs(&mut service.tls));
    let collector = config.telemetry.tracing.iter_mut().flat_map(|tracing| tls_inputs(&mut tracing.tls));
    listeners.chain(services).chain(collector).collect()
}

fn listener_inputs(listener: &mut Listener) -> Vec<&mut PathBuf> {
    let Some(tls) = &mut listener.tls else { return Vec::new() };
    let pairs = tls.certificates.iter_mut().flat_map(|pair| [&mut pair.cert, &mut pair.key]);
    pairs.chain(tls.client_auth.iter_mut().map(|auth| &mut auth.ca)).collect()
}

fn tls_inputs(tls: &mut UpstreamTls) -> Vec<&mut PathBuf> {
    [&mut tls.ca, &mut tls.client_cert, &mut tls.client_key].into_iter().flatten().collect()
}

fn outputs(config: &mut Config) -> Vec<&mut PathBuf> {
    let access_log = config.telemetry.access_log.as_mut().and_then(|log| match &mut log.path {
        AccessLogPath::File(path) => Some(path),
        AccessLogPath::Stdout | AccessLogPath::Stderr => None,
    });
    access_log.into_iter().chain(&mut config.server.upgrade_socket).collect()
}
