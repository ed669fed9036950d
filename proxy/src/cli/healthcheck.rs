//! `healthcheck`: is the Waypost beside me ready?
//!
//! Decides whom to ask and how long to wait. Needs neither a runtime nor a config without mistakes: a container's
//! engine calls it every few seconds, and kills what it calls ill.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use toml::de::DeTable;

use super::client::Call;
use super::{Verdict, failed, print};

/// Asks `url`, or `/ready` on the admin address of the config at `path`, and says what came back.
pub(super) fn ask(url: Option<String>, path: &Path, timeout: Duration) -> Verdict {
    let url = match url.map_or_else(|| ready_url(path), Ok) {
        Ok(url) => url,
        Err(error) => return failed(&error),
    };
    let call = Call { method: &Method::GET, url: &url, token: None, body: "" };
    match call.send(Instant::now() + timeout) {
        Ok(reply) if reply.is_good() => print(&format!("{}\n", reply.body.trim())),
        Ok(reply) => failed(&format!("{url} answered {}: {}", reply.status, reply.body.trim())),
        Err(error) => failed(&format!("{url}: {error}")),
    }
}

fn ready_url(path: &Path) -> Result<String, String> {
    let nowhere = || format!("{} has no admin address to ask; give one with --url", path.display());
    let address = match waypost_config::load(path) {
        Ok(loaded) => loaded.config.admin.map(|admin| admin.address),
        Err(_) => among_mistakes(path).map_err(|error| format!("can't read {}: {error}", path.display()))?,
    };
    Ok(format!("http://{}/ready", reachable(address.ok_or_else(nowhere)?)))
}

/// The admin address of a file with mistakes elsewhere.
fn among_mistakes(path: &Path) -> io::Result<Option<SocketAddr>> {
    let text = std::fs::read_to_string(path)?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let address = table.get_ref().get("admin").and_then(|admin| admin.get_ref().get("address"));
    Ok(address.and_then(|address| address.get_ref().as_str()?.parse().ok()))
}

/// One cannot ask "every address".
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_addresses_become_loopback() {
        for (configured, asked) in [
            ("0.0.0.0:9900", "127.0.0.1:9900"),
            ("[::]:9900", "[::1]:9900"),
            ("192.0.2.1:9900", "192.0.2.1:9900"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(reachable(configured.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn address_is_found_in_a_file_with_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("waypost.toml");
        std::fs::write(&path, "[admin]\naddress = \"0.0.0.0:9900\"\n[listeners.web]\nadress = \n").unwrap();
        assert_eq!(ready_url(&path).unwrap(), "http://127.0.0.1:9900/ready");
        std::fs::write(&path, "version = 1\n[admin\n").unwrap();
        assert!(ready_url(&path).is_err());
    }
}
