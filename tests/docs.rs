//! What the documentation says, holds: examples load, links lead somewhere, every reason is explained.
//!
//! Configs are loaded in a folder of their own, with the certificates and secrets that they name made there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use waypost::lint;
use waypost::reply::Cause;
use waypost::snapshot::{Before, Ground, compile};
use waypost::telemetry::metrics::Metrics;
use waypost::upstream::sticky::ProcessKey;
use waypost_config::Lint;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// Every file below the folder whose name ends like this; build output and hidden folders left out.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(files(&path, ending)?);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What every variable and every file of secrets holds here.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Makes the certificates, keys and secrets that the text names, below the folder.
fn make_files(text: &str, folder: &Path) -> Result<()> {
    let strings = text.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    for name in strings.filter(|name| !name.starts_with('/')) {
        if let Some(secret) = name.strip_prefix("${file:").and_then(|rest| rest.strip_suffix('}')) {
            ensure!(!secret.starts_with('/'), "{secret} lies outside of the folder: name it relative to the config");
            make(&folder.join(secret), SECRET)?;
        } else if let Some(stem) = name.strip_suffix(".pem").or_else(|| name.strip_suffix(".key")) {
            make_pair(&folder.join(stem))?;
        }
    }
    Ok(())
}

/// The hosts of all examples.
const NAMES: [&str; 3] = ["shop.example", "*.shop.example", "partners.example"];

/// A certificate and its key, unless they are there.
fn make_pair(stem: &Path) -> Result<()> {
    let (certificate, key) = (stem.with_extension("pem"), stem.with_extension("key"));
    if certificate.exists() {
        return Ok(());
    }
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(NAMES.map(str::to_owned))?;
    make(&certificate, &cert.pem())?;
    make(&key, &signing_key.serialize_pem())
}

fn make(file: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
    Ok(fs::write(file, text)?)
}

/// Loads the text as a config, in a folder of its own; what is shown to users gives no reason for a warning.
fn load(text: &str) -> Result<()> {
    let folder = TempDir::new()?;
    make_files(text, folder.path())?;
    let loaded = waypost_config::parse(text, &folder.path().join("waypost.toml"), &|_| Some(SECRET.to_owned()))?;
    let mut config = loaded.config;
    config.telemetry.access_log = None;
    let ground = Ground { metrics: Metrics::new(), process_key: ProcessKey::generate(), workers: 1 };
    let snapshot = compile(config, Before::default(), &ground)?;
    let warnings = loaded.warnings.and(lint::remarks(&snapshot, SystemTime::now()));
    ensure!(warnings.is_empty(), "{warnings}");
    Ok(())
}

#[test]
fn every_example_loads() -> Result<()> {
    let examples = files(&repository().join("docs/examples"), ".toml")?;
    ensure!(examples.len() >= 9, "where are the examples? {examples:?}");
    for example in examples {
        load(&fs::read_to_string(&example)?).with_context(|| example.display().to_string())?;
    }
    Ok(())
}

/// The blocks of TOML in a page that are whole files.
fn whole_configs(page: &str) -> impl Iterator<Item = &str> {
    page.split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|block| block.contains("version ="))
}

#[test]
fn whole_configs_in_the_docs_load() -> Result<()> {
    let mut loaded = 0;
    for page in files(repository(), ".md")? {
        let text = fs::read_to_string(&page)?;
        for config in whole_configs(&text) {
            load(config).with_context(|| format!("{}:\n{config}", page.display()))?;
            loaded += 1;
        }
    }
    ensure!(loaded >= 2, "the README and the quickstart have a whole config each");
    Ok(())
}

/// What the page's links point at inside the repository, without their anchors.
fn local_links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let mut broken = Vec::new();
    for page in files(repository(), ".md")? {
        let text = fs::read_to_string(&page)?;
        let folder = page.parent().context("a file lies in a folder")?;
        let missing = local_links(&text).filter(|target| !folder.join(target).exists());
        broken.extend(missing.map(|target| format!("{} -> {target}", page.display())));
    }
    ensure!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    Ok(())
}

#[test]
fn every_lint_is_explained() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/guides/checking.md"))?;
    let explained: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    ensure!(explained == Lint::ALL.map(Lint::name), "explained are {explained:?}");
    Ok(())
}

#[test]
fn every_reason_is_explained_with_its_status() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/semantics.md"))?;
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    ensure!(rows.len() == Cause::ALL.len(), "{} rows for {} reasons", rows.len(), Cause::ALL.len());
    for (row, cause) in rows.into_iter().zip(Cause::ALL) {
        let status = match cause {
            // Theirs is set by whoever wrote the redirect or the middleware.
            Cause::Redirect => "3xx".to_owned(),
            Cause::Middleware => "its own".to_owned(),
            _ => cause.status().as_u16().to_string(),
        };
        let expected = format!("| `{}` | {status} | ", cause.token());
        ensure!(
            row.starts_with(&expected),
            "the row after the order of `Cause::ALL` begins with {expected}, not {row}"
        );
    }
    Ok(())
}

/// What a section of the runbook on a reason has, beside what the reason means.
const ANSWERS: [&str; 2] = ["**See why.** ", "**Do.** "];

#[test]
fn every_reason_has_its_section_in_the_runbook() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/guides/runbook.md"))?;
    let (_, by_reason) = page.split_once("\n## By reason\n").context("the part by reason")?;
    let (by_reason, _) = by_reason.split_once("\n## ").context("another part behind it")?;
    let sections: Vec<(&str, &str)> =
        by_reason.split("\n### ").skip(1).filter_map(|one| one.split_once('\n')).collect();
    ensure!(sections.len() == Cause::ALL.len(), "{} sections for {} reasons", sections.len(), Cause::ALL.len());
    for cause in Cause::ALL {
        let (_, section) = sections
            .iter()
            .find(|(token, _)| *token == cause.token())
            .with_context(|| format!("no section on `{}`", cause.token()))?;
        for answer in ANSWERS {
            ensure!(section.contains(answer), "the section on `{}` has no {answer}", cause.token());
        }
    }
    Ok(())
}
