//! The proxies that are compared, each configured as a competent operator would for the same job: keep-alive on both
//! sides, one worker, the forwarded headers and a request id that Waypost sends too.
//!
//! A [`Recipe`] is all that is known of one of them. Writes no file and starts nothing: it says what to write and what
//! to start.

mod waypost;

mod caddy;
mod envoy;
mod floor;
mod haproxy;
mod nginx;
mod traefik;

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    CompareError,
    figures::{BASELINE, FLOOR},
    scenario::{Kind, Layout},
};

/// Everything that can be compared with Waypost.
const PEERS: [&dyn Recipe; 6] =
    [&nginx::Nginx, &haproxy::Haproxy, &envoy::Envoy, &caddy::Caddy, &traefik::Traefik, &floor::Floor];

/// Why peers have no part in what is about Waypost.
const WAYPOST_ONLY: &str = "measured of Waypost only";

/// How one proxy is started, and what it cannot do.
pub trait Recipe: Sync {
    /// Its name, which is that of its program.
    fn name(&self) -> &'static str;
    /// Arguments that make it print its version.
    fn version_arguments(&self) -> &'static [&'static str];
    /// Its files, the main one first: name and content.
    fn files(&self, setting: &Setting<'_>) -> Vec<(&'static str, String)>;
    /// Arguments to run in the foreground on those files.
    fn arguments(&self, setting: &Setting<'_>) -> Vec<String>;
    /// Variables of its environment.
    fn environment(&self, _setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The ports it listens on once it is ready.
    fn ports(&self, setting: &Setting<'_>) -> Vec<u16> {
        vec![setting.plain, setting.tls]
    }
    /// Why it has no part in a scenario; `None` if it has one.
    fn excuse(&self, kind: Kind) -> Option<&'static str> {
        kind.is_of_waypost().then_some(WAYPOST_ONLY)
    }
    /// How it differs from the others in a scenario, where it does.
    fn remark(&self, _kind: Kind) -> Option<&'static str> {
        None
    }
    /// The share of a scenario's rate that it bears on one core; the slowest proxy's counts for all.
    fn bears(&self) -> f64 {
        1.0
    }
    /// Descriptors it needs for a client's connection.
    fn descriptors_per_connection(&self) -> usize {
        1
    }
    /// Whether it is a proxy that does the job, and not only a measure for those that do.
    fn competes(&self) -> bool {
        true
    }
}

/// A proxy that can be run here.
#[derive(Clone)]
pub struct Peer {
    recipe: &'static dyn Recipe,
    program: PathBuf,
}

/// Where a proxy runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its process.
    pub pid: u32,
    /// Port for HTTP/1.1.
    pub plain: u16,
    /// Port for TLS, with HTTP/2 and HTTP/1.1 by ALPN.
    pub tls: u16,
    /// Port at which it may be watched.
    pub admin: u16,
}

/// What a config is made of.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// A folder for its files; holds `site.pem`, `site.key` and both in `site.both`.
    pub folder: &'a Path,
    /// Where it shall listen for HTTP/1.1.
    pub plain: u16,
    /// Where it shall listen for TLS.
    pub tls: u16,
    /// Where it may show its metrics.
    pub spare: u16,
    /// Where the upstreams listen: as many as the layout has endpoints.
    pub upstreams: &'a [SocketAddr],
    /// What it is configured for.
    pub layout: Layout,
    /// Connections of clients it must bear.
    pub connections: usize,
}

impl Peer {
    /// Waypost and the other build of it, if given, and of the peers those that are installed and wanted; all of them are
    /// if none is named.
    pub fn found(
        waypost: Option<&Path>,
        baseline: Option<&Path>,
        wanted: &[String],
    ) -> Result<Vec<Self>, CompareError> {
        let ours = |recipe: &'static waypost::Waypost, path: &Path| Self { recipe, program: path.to_owned() };
        let mut found = Vec::new();
        found.extend(waypost.map(|path| ours(&waypost::SUBJECT, path)));
        found.extend(baseline.map(|path| ours(&waypost::BASELINE, path)));
        if let Some(stranger) = wanted.iter().find(|name| PEERS.iter().all(|recipe| recipe.name() != *name)) {
            return Err(CompareError::Stranger(stranger.clone()));
        }
        for recipe in PEERS {
            let named = wanted.iter().any(|name| name == recipe.name());
            match program_of(recipe) {
                Some(program) if named || wanted.is_empty() => found.push(Self { recipe, program }),
                None if named => return Err(CompareError::Missing(recipe.name())),
                _ => {}
            }
        }
        Ok(found)
    }

    /// What is known of it.
    pub fn recipe(&self) -> &'static dyn Recipe {
        self.recipe
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.recipe.name()
    }

    /// The binary.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its name with its version, as it says itself; the name alone if it says none.
    pub fn version(&self) -> String {
        let said = Command::new(&self.program).args(self.recipe.version_arguments()).output();
        // nginx says it on standard error.
        let said = said.map(|said| [said.stdout, said.stderr].concat()).unwrap_or_default();
        match version_in(&String::from_utf8_lossy(&said)) {
            Some(version) => format!("{} {version}", self.name()),
            None => self.name().to_owned(),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} at {})", self.name(), self.program.display())
    }
}

/// The first thing that looks like `1.2` or `v1.2.3`.
fn version_in(text: &str) -> Option<&str> {
    text.split([' ', '/', '\n', '\t']).map(|word| word.trim_start_matches('v')).find(|word| {
        let mut parts = word.split('.');
        let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
        is_number(parts.next()) && parts.next().is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn program_of(recipe: &dyn Recipe) -> Option<PathBuf> {
    // The floor is this very program.
    if recipe.competes() { on_path(recipe.name()) } else { std::env::current_exe().ok() }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some in /usr/sbin, which is not on every user's PATH.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// One line for each.
fn lines<T>(all: impl IntoIterator<Item = T>, line: impl Fn(T) -> String) -> String {
    all.into_iter().fold(String::new(), |mut text, one| {
        writeln!(text, "{}", line(one)).expect("a string takes all");
        text
    })
}

/// Routes by host: the hosts with their path prefixes, in order.
fn by_host(layout: Layout) -> Vec<(String, Vec<String>)> {
    let mut hosts: Vec<(String, Vec<String>)> = Vec::new();
    for (host, path) in layout.routes() {
        match hosts.last_mut() {
            Some((last, paths)) if *last == host => paths.push(path),
            _ => hosts.push((host, vec![path])),
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Output};

    use super::*;

    /// Every layout there is.
    const LAYOUTS: [Layout; 9] = [
        Layout::Plain,
        Layout::Shipped,
        Layout::Unwatched,
        Layout::Watched,
        Layout::Routes(1),
        Layout::Routes(40),
        Layout::Endpoints(3),
        Layout::Endpoints(40),
        Layout::Workers(2),
    ];

    fn upstreams(layout: Layout) -> Vec<SocketAddr> {
        (1..=layout.endpoints()).map(|n| format!("127.0.0.{n}:7003").parse().unwrap()).collect()
    }

    /// Writes a peer's files for a layout into a folder with a certificate, and looks at the folder with `look`.
    fn with_files<T>(recipe: &dyn Recipe, layout: Layout, look: impl FnOnce(&Setting<'_>) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        fs::write(folder.path().join("site.both"), certificate.clone() + &key).unwrap();
        fs::write(folder.path().join("site.pem"), certificate).unwrap();
        fs::write(folder.path().join("site.key"), key).unwrap();
        let upstreams = upstreams(layout);
        let setting = Setting {
            folder: folder.path(),
            plain: 7001,
            tls: 7002,
            spare: 7009,
            upstreams: &upstreams,
            layout,
            connections: 64,
        };
        for (name, text) in recipe.files(&setting) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        look(&setting)
    }

    #[test]
    fn every_config_names_ports_upstreams_and_routes() {
        for recipe in PEERS.into_iter().chain([&waypost::SUBJECT as &dyn Recipe]).filter(|recipe| recipe.competes()) {
            for layout in LAYOUTS {
                with_files(recipe, layout, |setting| {
                    let text: String = recipe.files(setting).into_iter().map(|(_, text)| text).collect();
                    let told = |what: &str| assert!(text.contains(what), "{} {layout:?}: {what}", recipe.name());
                    told("7001");
                    told("7002");
                    setting.upstreams.iter().for_each(|upstream| told(&upstream.ip().to_string()));
                    setting.layout.routes().for_each(|(host, path)| {
                        told(&host);
                        told(&path);
                    });
                });
            }
        }
    }

    #[test]
    fn waypost_reads_its_configs() {
        for layout in LAYOUTS {
            with_files(&waypost::SUBJECT, layout, |setting| {
                let text = &waypost::SUBJECT.files(setting)[0].1;
                let config: waypost_config::Config = toml::from_str(text).unwrap();
                assert_eq!(config.services["fleet"].endpoints.len(), setting.upstreams.len());
                assert_eq!(config.routes.len(), layout.routes().count().max(1), "{layout:?}");
            });
        }
    }

    /// The peer's own judgement on its configs, if it is installed.
    fn judge(recipe: &dyn Recipe, arguments: impl Fn(&Path) -> Vec<String>) {
        let Some(program) = on_path(recipe.name()) else {
            eprintln!("skipped: no {} here", recipe.name());
            return;
        };
        for layout in LAYOUTS {
            let Output { status, stdout, stderr } = with_files(recipe, layout, |setting| {
                let mut command = Command::new(&program);
                command.args(arguments(setting.folder)).envs(recipe.environment(setting)).output().unwrap()
            });
            let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
            assert!(status.success(), "{layout:?}: {said}");
        }
    }

    #[test]
    fn nginx_accepts_its_configs() {
        judge(&nginx::Nginx, |folder| vec!["-t".into(), "-c".into(), folder.join("nginx.conf").display().to_string()]);
    }

    #[test]
    fn haproxy_accepts_its_configs() {
        judge(&haproxy::Haproxy, |folder| {
            vec!["-c".into(), "-f".into(), folder.join("haproxy.cfg").display().to_string()]
        });
    }

    #[test]
    fn envoy_accepts_its_configs() {
        judge(&envoy::Envoy, |folder| {
            let file = folder.join("envoy.json").display().to_string();
            ["--mode", "validate", "--log-level", "error", "-c", &file].map(str::to_owned).into()
        });
    }

    #[test]
    fn caddy_accepts_its_configs() {
        judge(&caddy::Caddy, |folder| {
            vec!["validate".into(), "--config".into(), folder.join("caddy.json").display().to_string()]
        });
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17", "2.6.12-1+deb12u4"),
            ("\n/x/envoy  version: 9e5580933/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"),
            ("v2.7.6 h1:abc=", "2.7.6"),
            ("Version:      3.1.2\nCodename: x", "3.1.2"),
        ] {
            assert_eq!(version_in(said), Some(version), "{said}");
        }
        assert_eq!(version_in("no version 9 here"), None);
    }

    #[test]
    fn strangers_and_the_missing_are_refused() {
        let wanted = |name: &str| Peer::found(None, None, &[name.to_owned()]);
        assert!(matches!(wanted("apache"), Err(CompareError::Stranger(name)) if name == "apache"));
        assert_eq!(wanted("floor").unwrap().len(), 1);
    }
}
