//! From a file to a [`Config`], or to everything that is wrong with it.
//!
//! Decides the order: syntax, references (`${…}`), types, sense. serde's derives are the only description of the
//! format; a value that serde refuses is complained about, taken out, and the rest is read again, so that one run finds
//! all mistakes (a hundred of them, if a template has made thousands). Reads files; never writes one, never talks to the network.

use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::Config;
use crate::document::{Document, NodeId};
use crate::expand::{Expander, reason};
use crate::fault::{Fault, What};
use crate::place::Place;
use crate::problem::{Complaint, Find, Problems};
use crate::words::{self, Meant};
use crate::written::Written;
use crate::{lint, paths, validate};

/// A configuration that may be put to work.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration; file names in it are absolute or relative to the working directory.
    pub config: Config,
    /// The file's text as it was read, references not replaced.
    pub text: String,
    /// Every other file it was made of or points at: certificates, keys, authorities, `${file:…}`. Sorted, none twice.
    pub files: Vec<PathBuf>,
    /// What is doubtful in it, though it may be put to work.
    pub warnings: Problems,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("can't read {}: {}", path.display(), reason(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has mistakes.
    #[error("{0}")]
    Refused(Problems),
}

/// Reads and checks a file, with the process's environment.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    parse(&text, path, &|name| std::env::var(name).ok()).map_err(LoadError::Refused)
}

/// Checks a text as if it had been read from `path`, where relative file names in it start. `environment` answers
/// `${NAME}`.
pub fn parse(text: &str, path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let refuse = |finds: Vec<Find>| Problems::new(&name, text, finds);
    if is_blank(text) {
        return Err(refuse(vec![empty()]));
    }
    let table = syntax(text).map_err(refuse)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut expander = Expander { directory, environment, files: Vec::new(), written: Written::default() };
    let (mut document, mut finds) = Document::new(table, &mut |text, place| expander.expand(text, place));
    let config = read(&mut document, &mut finds).map(|config| paths::resolve(config, directory));
    if let Some(config) = &config {
        finds.extend(validate::check(config, &document));
    }
    match config {
        Some(config) if finds.is_empty() => {
            let config = Config { written: expander.written, ..config };
            let mut files = expander.files;
            files.extend(paths::of(&config));
            files.sort();
            files.dedup();
            let warnings = lint::warnings(&name, text, (&config, &document));
            Ok(Loaded { config, text: text.to_owned(), files, warnings })
        }
        _ => Err(Problems::new(&name, &lint::without_secrets(text, &document), finds)),
    }
}

/// Whether nothing but comments is there: what a half-written or truncated file looks like.
fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}

fn empty() -> Find {
    let complaint = Complaint::new("the file is empty").hint(
        "the least is a listener, a route and a service:\n\
         version = 1\n\
         [listeners.web]\n\
         address = \"0.0.0.0:8080\"\n\
         [routes.all]\n\
         service = \"app\"\n\
         [services.app]\n\
         endpoints = [{ name = \"app-1\", url = \"http://127.0.0.1:9001\" }]",
    );
    Find { span: 0..0, place: Place::root(), complaint, related: None, lint: None }
}

/// TOML's own rules.
fn syntax(text: &str) -> Result<DeTable<'_>, Vec<Find>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table.into_inner());
    }
    let find = |error: &toml::de::Error| Find {
        span: error.span().unwrap_or(0..0),
        place: Place::root(),
        complaint: Fault::syntax(error.message()),
        related: None,
        lint: None,
    };
    let mut finds: Vec<Find> = errors.iter().map(find).collect();
    // What follows on the same line is the echo of the first mistake.
    finds.sort_by_key(|find| find.span.start);
    let line = |find: &Find| text[..find.span.start.min(text.len())].matches('\n').count();
    finds.dedup_by_key(|find| line(find));
    Err(finds)
}

/// Nobody reads more, and each costs a reading of the whole file.
const MOST_FINDS: usize = 100;

/// Reads the tree, and whatever can't be read is found, mended and read again.
fn read(document: &mut Document<'_>, finds: &mut Vec<Find>) -> Option<Config> {
    loop {
        let (id, message) = match document.read() {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let fault = match document.table_of_key(id) {
            Some(_) => Fault::of(&message).of_key(),
            None => Fault::of(&message),
        };
        if !is_echo(document, id, &fault) {
            finds.push(document.find(id, fault.complaint()));
        }
        if finds.len() >= MOST_FINDS || !mend(document, id, &fault) {
            return None;
        }
    }
}

/// Whether a fault is there only because of one that was found before.
fn is_echo(document: &Document<'_>, id: NodeId, fault: &Fault) -> bool {
    let echo = match fault {
        Fault::Missing(key) => document.excuses(id, key),
        Fault::Said(_) => document.is_hollow(id),
        Fault::Unknown { what: What::Kind, .. } => {
            document.table_of_key(id).is_some_and(|table| document.is_guessed(table))
        }
        _ => false,
    };
    echo || document.is_guessed(id)
}

/// Changes the tree so that this fault does not come again. Each way makes the tree smaller or nearer to the format,
/// so this ends.
fn mend(document: &mut Document<'_>, id: NodeId, fault: &Fault) -> bool {
    match fault {
        Fault::Missing(key) => {
            stand_in(key).is_some_and(|value| document.stand_in(id, key, value)) || document.remove(id)
        }
        Fault::Unknown { word, known, .. } => mend_word(document, id, words::meant(word, known)),
        _ if document.is_guessed(id) => document.give_up(id),
        _ => document.remove(id),
    }
}

/// A key is given the name that was meant. A kind (a table with one key that says which) goes with its table when
/// nothing is meant.
fn mend_word(document: &mut Document<'_>, id: NodeId, meant: Meant) -> bool {
    if document.is_guessed(id) {
        return document.give_up(id);
    }
    match meant {
        Meant::Known(word) | Meant::Called(word) => document.rename(id, &word) || document.remove(id),
        Meant::Unsupported => document.give_up(id),
        Meant::Nothing => match document.table_of_key(id) {
            Some(table) if document.is_guessed(table) => document.give_up(table),
            _ => document.remove(id),
        },
    }
}

/// What stands in for a required value while the rest of the file is read.
fn stand_in(key: &str) -> Option<&'static str> {
    Some(match key {
        "version" => "1",
        "certificates" => "[]",
        "address" => "'[100::]:9'",
        "url" | "otlp" => "'http://stand-in'",
        "request" => "'/'",
        "expect" => "{ status = 200 }",
        "regex" | "to" | "name" | "service" | "cert" | "key" | "ca" => "'stand-in'",
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The example of the reference, in a directory with the files it names.
    pub(crate) fn example() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("secrets")).unwrap();
        for (name, content) in [
            ("secrets/admin", "an-admin-token-of-some-length\n"),
            ("site.pem", "pem"),
            ("site.key", "key"),
            ("internal.pem", "pem"),
        ] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let path = directory.path().join("waypost.toml");
        std::fs::write(&path, include_str!("example.toml")).unwrap();
        (directory, path)
    }

    #[test]
    fn a_mistake_in_every_route_is_told_a_hundred_times() {
        let route = |number: usize| format!("[routes.r-{number}]\nsevrice = \"a\"");
        let routes = (0..1_000).map(route).collect::<Vec<_>>().join("\n");
        let problems = parse(&format!("version = 1\n{routes}"), Path::new("waypost.toml"), &environment).unwrap_err();
        assert_eq!(problems.iter().count(), MOST_FINDS);
    }

    fn environment(name: &str) -> Option<String> {
        (name == "LB_SECRET").then(|| "0123456789abcdef0123456789abcdef".to_owned())
    }

    #[test]
    fn the_example_of_the_reference_loads() {
        let (directory, path) = example();
        let text = std::fs::read_to_string(&path).unwrap();
        let loaded = parse(&text, &path, &environment).unwrap_or_else(|problems| panic!("{problems}"));
        let token = loaded.config.admin.unwrap().token.unwrap();
        assert_eq!(token.reveal(), "an-admin-token-of-some-length");
        let files: Vec<PathBuf> =
            ["internal.pem", "secrets/admin", "site.key", "site.pem"].map(|name| directory.path().join(name)).into();
        assert_eq!(loaded.files, files);
        assert_eq!(loaded.config.routes.keys().collect::<Vec<_>>(), ["shop", "www"]);
    }

    #[test]
    fn the_least_configuration_loads_with_defaults() {
        let text = "version = 1\nlisteners.web.address = '127.0.0.1:0'\nroutes.all.service = 'app'\n\
                    [services.app]\nendpoints = [{ name = 'app-1', url = 'http://127.0.0.1:9001' }]\n";
        let loaded = parse(text, Path::new("x.toml"), &environment).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.config.services["app"].retry, crate::service::Retry::default());
        assert!(loaded.files.is_empty());
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_of_its_own() {
        let error = load(Path::new("/nonexistent/waypost.toml")).unwrap_err();
        assert_eq!(error.to_string(), "can't read /nonexistent/waypost.toml: it does not exist");
    }

    #[test]
    fn an_emptied_file_is_refused() {
        for text in ["", "\n\n", "# nothing\n  # here\n"] {
            let problems = parse(text, Path::new("x.toml"), &environment).unwrap_err();
            assert_eq!(problems.iter().next().unwrap().message, "the file is empty");
        }
    }

    /// Every key that some table of the schema requires.
    fn required_keys(schema: &serde_json::Value, keys: &mut std::collections::BTreeSet<String>) {
        match schema {
            serde_json::Value::Object(object) => {
                let required = object.get("required").and_then(|required| required.as_array());
                keys.extend(required.into_iter().flatten().filter_map(|key| key.as_str().map(str::to_owned)));
                object.values().for_each(|inner| required_keys(inner, keys));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|inner| required_keys(inner, keys)),
            _ => {}
        }
    }

    #[test]
    fn every_required_key_has_a_stand_in() {
        let mut keys = std::collections::BTreeSet::new();
        required_keys(&crate::schema::value(), &mut keys);
        // These are told apart by their key, which can't be missing when they are recognised.
        let by_key = ["cookie", "client_ip", "headers", "strip_prefix"];
        keys.retain(|key| !by_key.contains(&key.as_str()) && key != "redirect");
        assert!(keys.contains("url"));
        let without: Vec<&String> = keys.iter().filter(|key| stand_in(key).is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn no_part_of_the_example_can_be_broken_without_an_answer() {
        let (_directory, path) = example();
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let Some((before, _)) = line.split_once(" = ") else { continue };
            for broken in ["true", "-7", "\"!\"", "[]", "{}", "1979-05-27", "[[1], 2.5]"] {
                let lines = text.lines().enumerate();
                let replaced = |(at, line): (usize, &str)| {
                    if at == number { format!("{before} = {broken}\n") } else { format!("{line}\n") }
                };
                let mutant: String = lines.map(replaced).collect();
                // Some are good values; what counts is that each is answered, and that a place is in the file.
                if let Err(problems) = parse(&mutant, &path, &environment) {
                    let lines = mutant.lines().count();
                    assert!(problems.iter().all(|problem| problem.line <= lines), "{problems}");
                }
            }
        }
    }
}
