//! nginx, without a master process: the same worker code, and one process less to end.

use super::{Kind, Layout, Recipe, Setting, by_host, lines};

/// nginx from PATH.
pub(super) struct Nginx;

impl Recipe for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["-v"]
    }

    fn files(&self, setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        vec![("nginx.conf", config(setting))]
    }

    fn arguments(&self, setting: &Setting<'_>) -> Vec<String> {
        vec!["-c".into(), setting.folder.join("nginx.conf").display().to_string()]
    }

    fn remark(&self, kind: Kind) -> Option<&'static str> {
        (kind == Kind::Shipped).then_some(
            "its free edition has neither sticky cookies nor active health checks: a cookie set by `add_header`, \
             a consistent hash of it, and passive checks; log lines buffered for 1 s; stub_status for metrics",
        )
    }
}

fn config(setting: &Setting<'_>) -> String {
    let Setting { folder, connections, upstreams, .. } = setting;
    let folder = folder.display();
    let room = connections * 2 + 4096;
    let keep = 128.max(upstreams.len() * 2);
    let members = lines(*upstreams, |upstream| format!("        server {upstream};"));
    let (shipped, pick) = shipped(setting);
    let servers = servers(setting);
    format!(
        r#"daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections {room};
}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    client_body_buffer_size 128k;
    proxy_max_temp_file_size 0;
    server_names_hash_max_size 16384;
    server_names_hash_bucket_size 128;
    ssl_session_cache shared:sessions:10m;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {folder}/site.pem;
    ssl_certificate_key {folder}/site.key;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
{HEADERS}
{shipped}
    upstream fleet {{
{pick}{members}        keepalive {keep};
        keepalive_requests 100000000;
    }}
{servers}}}
"#
    )
}

const HEADERS: &str = "    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Port $server_port;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Request-Id $request_id;";

fn servers(Setting { plain, tls, layout, .. }: &Setting<'_>) -> String {
    let listen = format!("        listen 127.0.0.1:{plain};\n        listen 127.0.0.1:{tls} ssl http2;\n");
    let all = "        location / {\n            proxy_pass http://fleet;\n        }\n";
    if !matches!(layout, Layout::Routes(_)) {
        // Its own location: a header set here replaces all that are set outside.
        let upgrade = format!(
            "        location /ws {{\n            proxy_pass http://fleet;\n{HEADERS}\n            \
             proxy_set_header Upgrade $http_upgrade;\n            proxy_set_header Connection upgrade;\n        }}\n"
        );
        return format!("    server {{\n{listen}{all}{upgrade}    }}\n");
    }
    lines(by_host(*layout), |(host, paths)| {
        let locations = lines(paths, |path| format!("        location {path}/ {{ proxy_pass http://fleet; }}"));
        format!("    server {{\n{listen}        server_name {host};\n{locations}    }}")
    })
}

/// What `shipped` adds to the file, and how an upstream is picked.
fn shipped(Setting { folder, spare, layout, .. }: &Setting<'_>) -> (String, &'static str) {
    if *layout != Layout::Shipped {
        return ("    access_log off;".to_owned(), "");
    }
    let file = format!(
        r#"    access_log {}/access.log combined buffer=64k flush=1s;
    map $cookie_lb $fresh {{
        ""      "lb=$request_id; Path=/; HttpOnly";
        default "";
    }}
    map $cookie_lb $pin {{
        ""      $request_id;
        default $cookie_lb;
    }}
    add_header Set-Cookie $fresh;
    server {{
        listen 127.0.0.1:{spare};
        location /metrics {{ stub_status; }}
    }}"#,
        folder.display()
    );
    (file, "        hash $pin consistent;\n")
}
