//! Waypost: ours, as it is delivered.

use super::{Kind, Layout, Recipe, Setting, lines};

/// Waypost, under this name.
pub(super) struct Waypost(&'static str);

/// The one that is measured.
pub(super) static SUBJECT: Waypost = Waypost("waypost");
/// Another build of it.
pub(super) static BASELINE: Waypost = Waypost(super::BASELINE);

impl Recipe for Waypost {
    fn name(&self) -> &'static str {
        self.0
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn files(&self, setting: &Setting<'_>) -> Vec<(&'static str, String)> {
        vec![("waypost.toml", config(setting))]
    }

    fn arguments(&self, setting: &Setting<'_>) -> Vec<String> {
        vec!["run".into(), "--config".into(), setting.folder.join("waypost.toml").display().to_string()]
    }

    fn excuse(&self, _kind: Kind) -> Option<&'static str> {
        None
    }
}

fn config(setting: &Setting<'_>) -> String {
    let Setting { folder, plain, tls, upstreams, layout, .. } = setting;
    let folder = folder.display();
    let workers = layout.workers();
    let endpoints = lines(upstreams.iter().enumerate(), |(n, upstream)| {
        format!("  {{ name = \"up-{n}\", url = \"http://{upstream}\" }},")
    });
    let (extras, service_extras) = extras(setting);
    let trusted = if watchable(*layout) { "trusted_proxies = [\"127.0.0.0/8\"]\n" } else { "" };
    let routes = routes(*layout);
    format!(
        r#"version = 1

[server]
workers = {workers}
{extras}
[listeners.web]
address = "127.0.0.1:{plain}"
{trusted}
[listeners.websecure]
address = "127.0.0.1:{tls}"
tls = {{ certificates = [{{ cert = "{folder}/site.pem", key = "{folder}/site.key" }}] }}

{routes}
[services.fleet]
{service_extras}endpoints = [
{endpoints}]
"#
    )
}

fn routes(layout: Layout) -> String {
    if !matches!(layout, Layout::Routes(_)) {
        return "[routes.all]\npath_prefix = \"/\"\nservice = \"fleet\"\n".to_owned();
    }
    lines(layout.routes().enumerate(), |(n, (host, path))| {
        format!("[routes.r{n}]\nhosts = [\"{host}\"]\npath_prefix = \"{path}\"\nservice = \"fleet\"\n")
    })
}

/// In both, so that they differ in nothing else: only a trusted client gets receipts.
fn watchable(layout: Layout) -> bool {
    matches!(layout, Layout::Unwatched | Layout::Watched)
}

/// What a layout adds to the file and to the service.
fn extras(setting: &Setting<'_>) -> (String, &'static str) {
    match setting.layout {
        Layout::Shipped => (
            // The log's format is that of the others: JSON, the default, says four times as much.
            telemetry(setting, "access_log = { path = \"{folder}/access.log\", format = \"combined\" }"),
            "sticky = { cookie = \"lb\" }\nhealth_check = { path = \"/health\", interval = \"1s\" }\n",
        ),
        Layout::Unwatched => ("\n[telemetry]\nlog = { level = \"error\" }\n".to_owned(), ""),
        Layout::Watched => (telemetry(setting, WATCHED), "health_check = { path = \"/health\", interval = \"1s\" }\n"),
        _ => (String::new(), ""),
    }
}

/// All that can be told, a line each. The collector is an upstream: it takes whatever is posted to it.
const WATCHED: &str = r#"log = { level = "info", format = "json" }
access_log = { path = "{folder}/access.log", format = "json" }
tracing = { otlp = "http://{collector}", protocol = "http", sample = "10%" }"#;

fn telemetry(Setting { folder, spare, upstreams, .. }: &Setting<'_>, keys: &str) -> String {
    let keys = keys.replace("{folder}", &folder.display().to_string());
    let keys = keys.replace("{collector}", &upstreams[0].to_string());
    format!("\n[admin]\naddress = \"127.0.0.1:{spare}\"\n\n[telemetry]\nmetrics = {{}}\n{keys}\n")
}
