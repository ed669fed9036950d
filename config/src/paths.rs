//! The files a configuration points at.
//!
//! Owns the list of them, in one place, so that none is resolved but not watched.

use std::path::{Path, PathBuf};

use crate::telemetry::AccessLogPath;
use crate::{Config, Listener, Service};

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
    listeners.chain(config.services.values_mut().flat_map(service_inputs)).collect()
}

fn listener_inputs(listener: &mut Listener) -> Vec<&mut PathBuf> {
    let Some(tls) = &mut listener.tls else { return Vec::new() };
    let pairs = tls.certificates.iter_mut().flat_map(|pair| [&mut pair.cert, &mut pair.key]);
    pairs.chain(tls.client_auth.iter_mut().map(|auth| &mut auth.ca)).collect()
}

fn service_inputs(service: &mut Service) -> Vec<&mut PathBuf> {
    let tls = &mut service.tls;
    [&mut tls.ca, &mut tls.client_cert, &mut tls.client_key].into_iter().flatten().collect()
}

fn outputs(config: &mut Config) -> Vec<&mut PathBuf> {
    let access_log = config.telemetry.access_log.as_mut().and_then(|log| match &mut log.path {
        AccessLogPath::File(path) => Some(path),
        AccessLogPath::Stdout | AccessLogPath::Stderr => None,
    });
    access_log.into_iter().chain(&mut config.server.upgrade_socket).collect()
}
