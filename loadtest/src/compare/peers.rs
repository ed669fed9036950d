//! The proxies that are compared, each configured as a competent operator would for the same job: keep-alive on both
//! sides, one worker, the forwarded headers and a request id that Waypost sends too, no access log.
//!
//! Writes no file and starts nothing: it says what to write and what to start.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A proxy that can be run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Ours.
    Waypost(PathBuf),
    /// nginx, from PATH.
    Nginx(PathBuf),
    /// `HAProxy`, from PATH.
    Haproxy(PathBuf),
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
}

/// What a config is made of.
#[derive(Debug)]
pub struct Setting<'a> {
    /// A folder for its files; holds `site.pem`, `site.key` and both in `site.both`.
    pub folder: &'a Path,
    /// Where it shall listen.
    pub plain: u16,
    /// Where it shall listen with TLS.
    pub tls: u16,
    /// Ports of the upstreams on 127.0.0.1.
    pub upstreams: &'a [u16],
}

impl Peer {
    /// Waypost if given, and what of the peers is on PATH.
    pub fn found(waypost: Option<&Path>) -> Vec<Self> {
        let waypost = waypost.map(|path| Self::Waypost(path.to_owned()));
        waypost
            .into_iter()
            .chain(on_path("nginx").map(Self::Nginx))
            .chain(on_path("haproxy").map(Self::Haproxy))
            .collect()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waypost(_) => "waypost",
            Self::Nginx(_) => "nginx",
            Self::Haproxy(_) => "haproxy",
        }
    }

    /// Its name with its version, as it says itself; the name alone if it says none.
    pub fn version(&self) -> String {
        let flag = if matches!(self, Self::Waypost(_)) { "--version" } else { "-v" };
        let said = Command::new(self.program()).arg(flag).output();
        // nginx says it on standard error.
        let said = said.map(|said| [said.stdout, said.stderr].concat()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let version = said.split([' ', '/']).find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        version.map_or(self.name().to_owned(), |version| format!("{} {}", self.name(), version.trim()))
    }

    /// The binary.
    pub fn program(&self) -> &Path {
        match self {
            Self::Waypost(path) | Self::Nginx(path) | Self::Haproxy(path) => path,
        }
    }

    /// Its arguments to run in the foreground with the config file `file`.
    pub fn arguments(&self, file: &Path) -> Vec<PathBuf> {
        let words: &[&str] = match self {
            Self::Waypost(_) => &["run", "--config"],
            Self::Nginx(_) => &["-c"],
            Self::Haproxy(_) => &["-db", "-f"],
        };
        words.iter().map(PathBuf::from).chain([file.to_owned()]).collect()
    }

    /// Its config.
    pub fn config(&self, setting: &Setting<'_>) -> String {
        match self {
            Self::Waypost(_) => waypost(setting),
            Self::Nginx(_) => nginx(setting),
            Self::Haproxy(_) => haproxy(setting),
        }
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps both in /usr/sbin, which is not on every user's PATH.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// One line for each upstream.
fn for_each(upstreams: &[u16], line: impl Fn(u16) -> String) -> String {
    upstreams.iter().fold(String::new(), |mut text, &port| {
        writeln!(text, "{}", line(port)).expect("a string takes all");
        text
    })
}

fn waypost(Setting { folder, plain, tls, upstreams }: &Setting<'_>) -> String {
    let folder = folder.display();
    let endpoints =
        for_each(upstreams, |port| format!("  {{ name = \"up-{port}\", url = \"http://127.0.0.1:{port}\" }},"));
    format!(
        r#"version = 1

[server]
workers = 1

[listeners.web]
address = "127.0.0.1:{plain}"

[listeners.websecure]
address = "127.0.0.1:{tls}"
tls = {{ certificates = [{{ cert = "{folder}/site.pem", key = "{folder}/site.key" }}] }}

[routes.all]
path_prefix = "/"
service = "fleet"

[services.fleet]
endpoints = [
{endpoints}]
"#
    )
}

/// No master process: the same worker code, and one process less to end.
fn nginx(Setting { folder, plain, tls, upstreams }: &Setting<'_>) -> String {
    let folder = folder.display();
    let servers = for_each(upstreams, |port| format!("        server 127.0.0.1:{port};"));
    format!(
        r#"daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections 4096;
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    client_body_buffer_size 128k;
    proxy_max_temp_file_size 0;
    ssl_session_cache shared:sessions:10m;
    ssl_protocols TLSv1.2 TLSv1.3;
    upstream fleet {{
{servers}        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl http2;
        ssl_certificate {folder}/site.pem;
        ssl_certificate_key {folder}/site.key;
        location / {{
            proxy_pass http://fleet;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Request-Id $request_id;
        }}
    }}
}}
"#
    )
}

fn haproxy(Setting { folder, plain, tls, upstreams }: &Setting<'_>) -> String {
    let folder = folder.display();
    let servers = for_each(upstreams, |port| format!("    server up-{port} 127.0.0.1:{port}"));
    format!(
        "global
    nbthread 1
    maxconn 4096
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    http-reuse always

frontend edge
    bind 127.0.0.1:{plain}
    bind 127.0.0.1:{tls} ssl crt {folder}/site.both alpn h2,http/1.1
    option forwardfor
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header X-Real-IP %[src]
    http-request set-header X-Request-Id %[uuid()]
    default_backend fleet

backend fleet
    balance roundrobin
{servers}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_config_names_ports_and_upstreams() {
        let setting = Setting { folder: Path::new("/tmp/x"), plain: 7001, tls: 7002, upstreams: &[7003, 7004] };
        for peer in [Peer::Waypost("w".into()), Peer::Nginx("n".into()), Peer::Haproxy("h".into())] {
            let config = peer.config(&setting);
            for port in 7001..=7004 {
                assert!(config.contains(&format!("127.0.0.1:{port}")), "{}: {port}", peer.name());
            }
        }
    }

    #[test]
    fn waypost_reads_its_config() {
        let setting = Setting { folder: Path::new("/tmp/x"), plain: 7001, tls: 7002, upstreams: &[7003, 7004] };
        let config: waypost_config::Config = toml::from_str(&waypost(&setting)).unwrap();
        assert_eq!(config.services["fleet"].endpoints.len(), 2);
    }
}
