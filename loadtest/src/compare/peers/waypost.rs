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
    let routes = routes(*layout);
    format!(
        r#"version = 1

[server]
workers = {workers}
{extras}
[listeners.web]
address = "127.0.0.1:{plain}"

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

/// What `shipped` adds to the file and to the service. The log's format is that of the others: JSON, the default, says four
/// times as much.
fn extras(Setting { folder, spare, layout, .. }: &Setting<'_>) -> (String, &'static str) {
    if *layout != Layout::Shipped {
        return (String::new(), "");
    }
    let file = format!(
        r#"
[admin]
address = "127.0.0.1:{spare}"

[telemetry]
metrics = {{}}
access_log = {{ path = "{}/access.log", format = "combined" }}
"#,
        folder.display()
    );
    (file, "sticky = { cookie = \"lb\" }\nhealth_check = { path = \"/health\", interval = \"1s\" }\n")
}
