//! `HAProxy`, with one thread.

use super::{Kind, Layout, Recipe, Setting, lines};

/// `HAProxy` from PATH.
pub(super) struct Haproxy;

impl Recipe for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["-v"]
    }

    fn files(&self, setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        let map = lines(setting.layout.routes(), |(host, path)| format!("{host}{path}/ fleet"));
        vec![("haproxy.cfg", config(setting)), ("routes.map", map)]
    }

    fn arguments(&self, setting: &Setting<'_>) -> Vec<String> {
        vec!["-db".into(), "-f".into(), setting.folder.join("haproxy.cfg").display().to_string()]
    }

    fn remark(&self, kind: Kind) -> Option<&'static str> {
        (kind == Kind::Shipped)
            .then_some("logs to its standard output, which is a file, with one write for each request")
    }
}

fn config(setting: &Setting<'_>) -> String {
    let Setting { folder, plain, tls, upstreams, layout, connections, .. } = setting;
    let folder = folder.display();
    let room = connections + 1024;
    let servers = lines(upstreams.iter().enumerate(), |(n, upstream)| server(*layout, n, &upstream.to_string()));
    let Extras { global, frontend, backend } = extras(setting);
    // Strict limits would refuse room for as many connections to upstreams as from clients.
    format!(
        "global
    nbthread 1
    maxconn {room}
    no strict-limits
    ssl-default-bind-options ssl-min-ver TLSv1.2
{global}
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
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
{frontend}
backend fleet
    balance roundrobin
{backend}{servers}"
    )
}

fn server(layout: Layout, n: usize, address: &str) -> String {
    if layout == Layout::Shipped {
        return format!("    server up-{n} {address} cookie up-{n} check inter 1s");
    }
    format!("    server up-{n} {address}")
}

/// What a layout adds, by section.
#[derive(Default)]
struct Extras {
    global: String,
    frontend: String,
    backend: String,
}

fn extras(Setting { folder, spare, layout, .. }: &Setting<'_>) -> Extras {
    match layout {
        Layout::Routes(_) => Extras {
            frontend: format!("    use_backend %[base,map_beg({}/routes.map)]\n", folder.display()),
            ..Extras::default()
        },
        Layout::Shipped => Extras {
            global: "    log stdout format raw local0\n".to_owned(),
            frontend: format!(
                "    log global\n    option httplog\n    default_backend fleet\n
frontend metrics
    bind 127.0.0.1:{spare}
    http-request use-service prometheus-exporter if {{ path /metrics }}\n"
            ),
            backend: "    cookie lb insert indirect nocache httponly\n    option httpchk GET /health\n".to_owned(),
        },
        _ => Extras { frontend: "    default_backend fleet\n".to_owned(), ..Extras::default() },
    }
}
