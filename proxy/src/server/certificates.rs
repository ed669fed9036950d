//! Certificates in use: renewed pairs are swapped in, and their ends of validity shown.
//!
//! Owns the series of the expiry metric. The certificates themselves belong to their stores.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{CertificateMetrics, Metrics};
use crate::telemetry::traefik::CertificateNames;
use crate::tls::{CertificateInfo, PairChange};

/// The series of the certificates that are served.
#[derive(Debug, Default)]
pub(super) struct Certificates(Mutex<Vec<Arc<CertificateMetrics>>>);

impl Certificates {
    /// Brings the metric to what this snapshot serves; the series of others go.
    pub(super) fn show(&self, snapshot: &Snapshot, metrics: &Metrics) {
        let mut shown = Vec::new();
        for (listener, store) in snapshot.certificate_stores() {
            for certificate in store.certificates() {
                let metrics = metrics.certificate(listener, &certificate.subject, &certificate.serial);
                metrics.not_after.set(unix_seconds(certificate.not_after));
                metrics.names.get_or_init(|| names(&certificate));
                shown.push(metrics);
            }
        }
        *self.0.lock() = shown;
    }
}

/// Swaps renewed pairs, each by itself. Blocks on the file system.
pub(super) fn refresh(snapshot: &Snapshot, metrics: &Metrics) {
    for (listener, store) in snapshot.certificate_stores() {
        let outcomes = store.refresh();
        let kept = outcomes.iter().filter(|outcome| matches!(outcome.change, PairChange::Kept(_))).count();
        metrics.listener(listener).certificates_kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
        for outcome in outcomes {
            let cert = outcome.cert.display();
            match outcome.change {
                PairChange::Unchanged => {}
                PairChange::Replaced => tracing::info!(%listener, %cert, "certificate replaced"),
                PairChange::Kept(error) => {
                    tracing::warn!(%listener, %cert, %error, "certificate kept, the new pair is refused");
                }
            }
        }
    }
}

fn names(certificate: &CertificateInfo) -> CertificateNames {
    let mut hosts: Vec<&str> = certificate.names.iter().map(String::as_str).filter(|name| !is_address(name)).collect();
    hosts.sort_unstable();
    let (common, serial) = (certificate.common_name.clone(), certificate.serial_number.clone());
    CertificateNames { common, serial, hosts: hosts.join(",") }
}

/// Traefik leaves them out.
fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
