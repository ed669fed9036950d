//! What is doubtful in a generation, and only seen by who has read its certificates.
//!
//! Decides by the certificates that are served and by the clock that it is given; all else that can be doubtful is found
//! in the file, by the config's own lints. Never refuses anything and reads no file.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use waypost_config::value::HostPattern;
use waypost_config::{Lint, Place, Remark};

use crate::snapshot::Snapshot;
use crate::tls::{CertificateInfo, CertificateStore};

/// Who renews by machine has done so a month before the end; two weeks are enough to do it by hand.
const SOON: Duration = Duration::from_hours(14 * 24);

/// All that the certificates of this generation give reason to warn of.
pub fn remarks(snapshot: &Snapshot, now: SystemTime) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for name in snapshot.config.listeners.keys() {
        let tls = snapshot.listeners.get(name.as_str()).and_then(|listener| listener.tls.as_ref());
        if let Some(tls) = tls {
            remarks.extend(ending(name, &tls.store, now));
            remarks.extend(uncovered(name, &tls.store, snapshot));
        }
    }
    remarks
}

fn ending(listener: &str, store: &CertificateStore, now: SystemTime) -> impl Iterator<Item = Remark> {
    let certificates = certificates(listener);
    let soon = store.certificates().into_iter().enumerate().filter(move |(_, one)| one.not_after <= now + SOON);
    soon.map(move |(index, certificate)| Remark {
        lint: Lint::CertificateExpires,
        place: certificates.index(index).key("cert"),
        message: end(&certificate, now),
        hint: "put the renewed pair in its place: it is taken up at once, while all else goes on".to_owned(),
        related: None,
    })
}

fn end(certificate: &CertificateInfo, now: SystemTime) -> String {
    let at = humantime::format_rfc3339_seconds(certificate.not_after);
    match certificate.not_after.duration_since(now).map(|left| left.as_secs() / (24 * 3600)) {
        Ok(0) => format!("the certificate ends within a day, at {at}"),
        Ok(1) => format!("the certificate ends in 1 day, at {at}"),
        Ok(days) => format!("the certificate ends in {days} days, at {at}"),
        Err(_) => format!("the certificate has ended, at {at}: clients refuse it"),
    }
}

/// Each host once: a hundred routes may have it. Wildcards are left out, for only some of their hosts may be in use.
fn uncovered(listener: &str, store: &CertificateStore, snapshot: &Snapshot) -> Vec<Remark> {
    let (mut seen, mut remarks) = (HashSet::new(), Vec::new());
    for (name, route) in snapshot.config.routes_of(listener) {
        for (index, host) in route.hosts.iter().enumerate() {
            let HostPattern::Exact(host) = host else { continue };
            if seen.insert(host) && !store.has_name_for(host) {
                remarks.push(Remark {
                    lint: Lint::CertificateNames,
                    place: Place::root().keys(&["routes", name, "hosts"]).index(index),
                    message: format!(
                        "no certificate of the listener `{listener}` covers it: clients refuse the connection"
                    ),
                    hint: "add a pair for it to the listener, or keep the route off the listener by `listeners`"
                        .to_owned(),
                    related: Some((certificates(listener), "none of these".to_owned())),
                });
            }
        }
    }
    remarks
}

fn certificates(listener: &str) -> Place {
    Place::root().keys(&["listeners", listener, "tls", "certificates"])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;
    use time::OffsetDateTime;
    use waypost_config::{Loaded, Problems};

    use super::*;
    use crate::snapshot::{Before, Ground, compile};
    use crate::telemetry::metrics::Metrics;
    use crate::upstream::sticky::ProcessKey;

    const NAMES: [&str; 2] = ["shop.example", "*.shop.example"];

    /// A pair for [`NAMES`] that ends after so many days, and a config with it and these routes.
    fn loaded(days: i64, routes: &str) -> (TempDir, Loaded) {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new(NAMES.map(str::to_owned)).unwrap();
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days) + time::Duration::hours(1);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("site.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(folder.path().join("site.key"), key.serialize_pem()).unwrap();
        let text = format!(
            "version = 1\n[listeners.web]\naddress = \"127.0.0.1:0\"\n[listeners.secure]\naddress = \"127.0.0.1:0\"\n\
             [listeners.secure.tls]\ncertificates = [{{ cert = \"site.pem\", key = \"site.key\" }}]\n\
             [services.app]\nendpoints = [{{ name = \"app-1\", url = \"http://127.0.0.1:9001\" }}]\n{routes}\n"
        );
        let loaded = waypost_config::parse(&text, &folder.path().join("waypost.toml"), &|_| None);
        (folder, loaded.unwrap_or_else(|problems| panic!("{problems}")))
    }

    /// The warnings after so many days of service.
    fn after(days: u64, loaded: &Loaded) -> Problems {
        let ground = Ground { metrics: Metrics::new(), process_key: ProcessKey::generate(), workers: 1 };
        let snapshot = compile(loaded.config.clone(), Before::default(), &ground).unwrap();
        loaded.warnings.and(remarks(&snapshot, SystemTime::now() + Duration::from_hours(days * 24)))
    }

    #[test]
    fn an_end_is_told_two_weeks_before() {
        let (_folder, loaded) = loaded(20, "[routes.all]\nservice = \"app\"");
        assert!(after(0, &loaded).is_empty() && after(5, &loaded).is_empty());
        let told = |days: u64| after(days, &loaded).iter().map(|problem| problem.message.clone()).collect::<String>();
        assert!(told(7).starts_with("the certificate ends in 13 days, at 20"), "{}", told(7));
        assert!(told(19).starts_with("the certificate ends in 1 day"), "{}", told(19));
        assert!(told(20).starts_with("the certificate ends within a day"), "{}", told(20));
        assert!(told(21).starts_with("the certificate has ended"), "{}", told(21));
        let warnings = after(7, &loaded);
        let warning = warnings.iter().next().unwrap();
        assert_eq!((warning.path.as_str(), warning.line), ("listeners.secure.tls.certificates[0].cert", 7));
    }

    #[test]
    fn a_host_without_a_certificate_is_told_once() {
        let routes = "[routes.a]\nservice = \"app\"\nhosts = [\"shop.example\", \"www.shop.example\", \"shop.test\"]\n\
                      [routes.b]\nservice = \"app\"\nhosts = [\"shop.test\", \"a.b.shop.example\", \"*.test\"]\npath = \"/b\"\n\
                      [routes.c]\nservice = \"app\"\nhosts = [\"plain.test\"]\nlisteners = [\"web\"]";
        let warnings = after(0, &loaded(90, routes).1);
        let places: Vec<_> = warnings.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(places, ["routes.a.hosts[2]", "routes.b.hosts[1]"]);
        let drawn = warnings.to_string();
        assert!(
            drawn.contains("warning[certificate_names]: routes.a.hosts[2]") && drawn.contains("none of these"),
            "{drawn}"
        );
    }
}
