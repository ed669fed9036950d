//! The house rules that no lint can see, held against the sources as text.

use std::path::{Path, PathBuf};

/// A source file of the workspace.
struct Source {
    /// Relative to the repository, with `/`.
    name: String,
    text: String,
}

impl Source {
    /// The part before the unit tests; nothing of a file of tests.
    fn code(&self) -> &str {
        if self.name.ends_with("tests.rs") || self.name.contains("/tests/") {
            return "";
        }
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }

    fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| self.name.starts_with(room))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository can be read") {
        let path = entry.expect("its entries, too").path();
        let hidden = path.file_name().is_some_and(|name| name == "target" || name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            collect(&path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name =
                path.strip_prefix(root()).expect("it lies in the repository").to_string_lossy().replace('\\', "/");
            sources.push(Source { name, text: std::fs::read_to_string(&path).expect("a source is text") });
        }
    }
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&root(), &mut sources);
    assert!(sources.len() > 100, "the sources are found");
    sources
}

/// Every line of these packages' code that contains `needle` stands in one of `rooms`.
#[track_caller]
fn check_only_in(package: &str, needle: &str, rooms: &[&str]) {
    let strays: Vec<_> = sources()
        .iter()
        .filter(|source| source.is_in(&[package]) && !source.is_in(rooms))
        .flat_map(|source| {
            source
                .code()
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .map(|line| (source.name.clone(), line.to_owned()))
        })
        .filter(|(_, line)| line.contains(needle))
        .collect();
    assert!(strays.is_empty(), "`{needle}` belongs in {rooms:?}: {strays:#?}");
}

#[test]
fn every_file_opens_with_its_card() {
    let without: Vec<_> =
        sources().into_iter().filter(|source| !source.text.starts_with("//!")).map(|source| source.name).collect();
    assert!(without.is_empty(), "no opening //! card: {without:#?}");
}

#[test]
fn no_file_has_a_name_that_explains_nothing() {
    let banned = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "types"];
    let named = |source: &Source| {
        let stem = source.name.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        banned.contains(&stem.as_str())
    };
    let strays: Vec<_> = sources().into_iter().filter(named).map(|source| source.name).collect();
    assert!(strays.is_empty(), "{strays:#?}");
}

#[test]
fn pingora_is_known_where_the_process_and_the_hash_ring_are() {
    check_only_in("proxy/src/", "pingora", &["proxy/src/server/process.rs", "proxy/src/upstream/balancer/hash.rs"]);
}

#[test]
fn hyper_is_known_on_the_way_of_a_request_only() {
    let rooms = [
        "proxy/src/edge/",
        "proxy/src/http1/",
        "proxy/src/framing.rs",
        "proxy/src/body.rs",
        "proxy/src/tunnel.rs",
        "proxy/src/upstream/",
        "proxy/src/telemetry/traces/collector.rs",
        "proxy/src/cli/",
        "proxy/src/demo",
    ];
    check_only_in("proxy/src/", "hyper::", &rooms);
}

#[test]
fn the_bytes_of_http1_are_read_in_one_place() {
    check_only_in("proxy/src/", "httparse", &["proxy/src/http1/head.rs"]);
    check_only_in("proxy/src/http1/", "crate::upstream", &[]);
    check_only_in("proxy/src/http1/", "crate::pipeline", &[]);
}

#[test]
fn config_knows_no_runtime() {
    for runtime in ["tokio", "hyper", "pingora", "http::"] {
        check_only_in("config/src/", runtime, &["config/src/words.rs"]);
    }
}

#[test]
fn rooms_in_the_middle_do_not_know_each_other() {
    for (room, strangers) in [
        ("proxy/src/router/", ["crate::middleware", "crate::upstream"]),
        ("proxy/src/middleware/", ["crate::router", "crate::upstream"]),
        ("proxy/src/upstream/", ["crate::router", "crate::middleware"]),
    ] {
        for stranger in strangers {
            check_only_in(room, stranger, &[]);
        }
    }
}

#[test]
fn only_the_snapshot_compiles_routers_and_chains() {
    check_only_in("proxy/src/", "Router::new(", &["proxy/src/snapshot/", "proxy/src/router/", "proxy/src/admin/"]);
    check_only_in("proxy/src/", "Chain::build(", &["proxy/src/snapshot/", "proxy/src/middleware/"]);
}

#[test]
fn every_metric_is_named_in_one_place() {
    // `top` reads them from outside, as anybody else does, and what is around asks Prometheus for them.
    let rooms =
        ["proxy/src/telemetry/metrics.rs", "proxy/src/demo", "proxy/src/cli/top.rs", "proxy/src/around/subject.rs"];
    check_only_in("proxy/src/", "\"waypost_", &rooms);
    check_only_in("proxy/src/", "\"traefik_", &["proxy/src/telemetry/traefik/"]);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let left: Vec<_> = sources()
        .into_iter()
        .flat_map(|source| {
            let found: Vec<_> = marks
                .iter()
                .filter(|mark| source.text.contains(**mark))
                .map(|mark| (source.name.clone(), *mark))
                .collect();
            found
        })
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}

/// Packages that cannot do without, and why.
const UNSAFE: [(&str, &str); 1] =
    [("tests/fuzz/Cargo.toml", "the entry point of libFuzzer is an exported C symbol, made by its macro")];

fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository can be read") {
        let path = entry.expect("its entries, too").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            manifests(&path, found);
        } else if name == "Cargo.toml" {
            found.push(path);
        }
    }
}

/// A lint of a package holds for its library, binaries, tests, benches and examples alike.
#[test]
fn unsafe_code_is_forbidden_in_every_package() {
    let mut found = Vec::new();
    manifests(&root(), &mut found);
    assert!(found.len() > 5, "the packages are found: {found:?}");
    for path in found {
        let name = path.strip_prefix(root()).expect("it lies in the repository").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a manifest is text");
        let forbids = text.contains("unsafe_code = \"forbid\"") || text.contains("[lints]\nworkspace = true");
        assert!(forbids || UNSAFE.iter().any(|(exception, _)| *exception == name), "{name} may have unsafe code");
    }
}
