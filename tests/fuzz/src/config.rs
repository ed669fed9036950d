//! Any text as a config: it is refused with places that lie in it, or it loads, the same each time, and can be run.

use std::path::Path;

use waypost::middleware::Chain;
use waypost::router::Router;
use waypost_config::{Config, Loaded, Problem, Problems};

/// Reads `data` as a config.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if names_a_device(text) {
        return;
    }
    match (load(text), load(text)) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.config, second.config, "read twice");
            assert_eq!(first.files, second.files, "read twice");
            assert_eq!(first.warnings, second.warnings, "read twice");
            can_be_shown(text, &first.warnings);
            runs(&first.config);
            means_the_same_when_shown(&first.config);
        }
        (Err(first), Err(second)) => {
            assert_eq!(first, second, "read twice");
            can_be_shown(text, &first);
            assert!(!first.is_empty(), "it is said why");
        }
        (first, second) => panic!("read twice: {:?}, then {:?}", first.is_ok(), second.is_ok()),
    }
}

/// `${file:…}` reads what it is told to; from a device that has no end.
fn names_a_device(text: &str) -> bool {
    ["/dev", "/proc", "/sys", "/run"].iter().any(|folder| text.contains(folder))
}

fn load(text: &str) -> Result<Loaded, Problems> {
    let environment = |name: &str| (name == "LB_SECRET").then(|| "0123456789abcdef0123456789abcdef".to_owned());
    // Nothing lies beside it, whichever machine this is.
    waypost_config::parse(text, Path::new("/nonexistent/waypost.toml"), &environment)
}

/// Each has a place in the text, and a drawing.
fn can_be_shown(text: &str, problems: &Problems) {
    problems.iter().for_each(|problem| lies_in(text, problem));
    assert_eq!(problems.to_string().is_empty(), problems.is_empty(), "it can be drawn");
    assert_eq!(problems.coloured().is_empty(), problems.is_empty(), "it can be drawn in colours");
}

fn lies_in(text: &str, problem: &Problem) {
    let line = text.split('\n').nth(problem.line - 1).unwrap_or_else(|| panic!("no such line: {problem:?}"));
    assert!((1..=line.chars().count() + 1).contains(&problem.column), "no such column: {problem:?} in {line:?}");
    assert!(!problem.message.is_empty(), "{problem:?}");
}

/// What may be put to work works: all mistakes are found while there is a place to point at.
fn runs(config: &Config) {
    let router = Router::new(config.routes.values().enumerate());
    assert!(router.is_ok(), "loaded, but {}", router.unwrap_err());
    for route in config.routes.values() {
        let chain = Chain::build(&route.middlewares, &config.middlewares);
        assert!(chain.is_ok(), "loaded, but {}", chain.unwrap_err());
    }
}

/// The config as the admin API shows it is the config.
fn means_the_same_when_shown(config: &Config) {
    let shown = toml::to_string(config).expect("a config can be written");
    let has_secrets = shown.contains("***");
    // An expanded string may look like a reference.
    if has_secrets || shown.contains("${") {
        return;
    }
    match load(&shown) {
        Ok(again) => assert_eq!(toml::to_string(&again.config).as_ref(), Ok(&shown), "shown, and read again"),
        Err(problems) => panic!("what was loaded is refused when it is shown:\n{problems}"),
    }
}
