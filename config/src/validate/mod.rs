//! What a configuration must be beyond its types: names, references, ranges, and what must not stand together.
//!
//! Decides what is refused; everything here is an error, for a configuration is either good or not put to work. Looks
//! whether named files can be opened, and at nothing else outside the file.

mod listeners;
mod middlewares;
mod routes;
mod server;
mod services;
mod tests_of_the_file;
mod tracing;

use std::path::Path;

use indexmap::IndexMap;

use crate::Config;
use crate::document::{Document, Part};
use crate::expand::reason;
use crate::place::Place;
use crate::problem::{Complaint, Find};
use crate::value::Duration;
use crate::words;

/// Names are labels in metrics and segments in the admin API's URLs: letters, digits, `_`, `-`, `.`, up to this many.
const LONGEST_NAME: usize = 64;

/// The shortest secret that is taken for one, in bytes.
const SHORTEST_SECRET: usize = 16;

/// Everything that is wrong with a configuration that could be read.
pub(crate) fn check(config: &Config, document: &Document<'_>) -> Vec<Find> {
    let mut checker = Checker { config, document, finds: Vec::new() };
    checker.root();
    checker.server();
    checker.tracing();
    checker.listeners();
    checker.routes();
    checker.middlewares();
    checker.services();
    checker.tests();
    checker.finds
}

/// The finds so far, and what to look at.
struct Checker<'a> {
    config: &'a Config,
    document: &'a Document<'a>,
    finds: Vec<Find>,
}

impl Checker<'_> {
    fn root(&mut self) {
        let root = Place::root();
        if self.config.version != 1 {
            let unknown = Complaint::new(format!("version {} of the format is not known", self.config.version));
            self.value(&root.key("version"), unknown.hint("write 1"));
        }
        if self.config.listeners.is_empty() {
            let none = Complaint::new("there is no listener, so nothing could come in");
            self.value(&root.key("listeners"), none.hint("add [listeners.web] with address = \"0.0.0.0:8080\""));
        }
        if self.config.routes.is_empty() {
            let none = Complaint::new("there is no route, so every request would be answered with 404");
            self.value(&root.key("routes"), none.hint("add [routes.all] with service = \"NAME\""));
        }
    }

    /// A complaint about the value at a place.
    fn value(&mut self, place: &Place, complaint: Complaint) {
        self.finds.extend(self.document.complain(place, Part::Value, complaint));
    }

    /// A complaint about the key at a place.
    fn key(&mut self, place: &Place, complaint: Complaint) {
        self.finds.extend(self.document.complain(place, Part::Key, complaint));
    }

    /// A complaint about the value at a place that repeats or contradicts another one.
    fn against(&mut self, place: &Place, complaint: Complaint, (other, label): (&Place, &str)) {
        let related = self.document.span(other, Part::Value).map(|span| (span, label.to_owned()));
        let find = self.document.complain(place, Part::Value, complaint);
        self.finds.extend(find.map(|find| Find { related, ..find }));
    }

    fn names<T>(&mut self, table: &str, entries: &IndexMap<String, T>) {
        for name in entries.keys() {
            let place = Place::root().keys(&[table, name]);
            if let Err(complaint) = name_complaint(name) {
                self.key(&place, complaint);
            }
        }
    }

    /// Complains when a table of the file has no entry of this name.
    fn reference<T>(&mut self, place: &Place, name: &str, (table, entries): (&str, &IndexMap<String, T>)) {
        if entries.contains_key(name) || self.document.has_lost_name(table, name) {
            return;
        }
        let known: Vec<String> = entries.keys().cloned().collect();
        let kind = table.trim_end_matches('s');
        let hint = match words::nearest(name, &known) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None if known.is_empty() => format!("add [{table}.{name}]"),
            None => format!("there is {}", words::list_all(&known)),
        };
        self.value(place, Complaint::new(format!("there is no {kind} `{name}`")).hint(hint));
    }

    fn not_zero(&mut self, place: &Place, duration: Duration) {
        if duration.is_zero() {
            let zero = Complaint::new("no time at all would let nothing through");
            self.value(place, zero.hint("write a duration above zero, for example \"5s\""));
        }
    }

    fn at_least_one(&mut self, place: &Place, count: usize) {
        if count == 0 {
            self.value(place, Complaint::new("0 would let nothing through").hint("write 1 or more, or leave it out"));
        }
    }

    fn file(&mut self, place: &Place, path: &Path) {
        let readable = std::fs::File::open(path).and_then(|file| file.metadata());
        let why = match readable {
            Ok(metadata) if metadata.is_dir() => "it is a directory".to_owned(),
            Ok(_) => return,
            Err(error) => reason(&error),
        };
        let complaint = Complaint::new(format!("the file `{}` can't be read: {why}", path.display()));
        self.value(place, complaint.hint("file names start at the directory of the configuration file"));
    }

    fn header_value(&mut self, place: &Place, value: &str) {
        let fits = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        if !value.bytes().all(fits) {
            let complaint = Complaint::new("not a header field's value");
            self.value(place, complaint.hint("visible ASCII, spaces and tabs; no line breaks (RFC 9110 section 5.5)"));
        }
    }

    fn path(&mut self, place: &Place, path: &str) {
        if let Err(complaint) = path_complaint(path) {
            self.value(place, complaint);
        }
    }

    fn secret(&mut self, place: &Place, secret: &str) {
        if secret.len() < SHORTEST_SECRET {
            let short = Complaint::new(format!("a secret of less than {SHORTEST_SECRET} characters can be guessed"));
            self.value(place, short.hint("make one with `openssl rand -hex 32`"));
        }
    }
}

fn name_complaint(name: &str) -> Result<(), Complaint> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.bytes().all(inner) && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    let hint = format!(
        "letters, digits, `_`, `-` and `.`, a letter or digit first, {LONGEST_NAME} at most: names stand in metrics and URLs"
    );
    Err(Complaint::new(format!("`{name}` can't be a name")).hint(hint))
}

/// Paths are compared in their normal form; a path that has another one would never match.
fn path_complaint(path: &str) -> Result<(), Complaint> {
    if !path.starts_with('/') {
        return Err(
            Complaint::new(format!("the path `{path}` does not begin with `/`")).hint(format!("write \"/{path}\""))
        );
    }
    if let Some(extra) = path.find(['?', '#']) {
        let hint = format!("write \"{}\"; a route has `query` for the rest", &path[..extra]);
        return Err(Complaint::new("a path ends before `?` and `#`").hint(hint));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Complaint::new("a path is visible ASCII").hint("write other characters percent-encoded: `%20`"));
    }
    let segments: Vec<&str> = path[1..].split('/').collect();
    let dots = segments.iter().any(|segment| matches!(*segment, "." | ".."));
    let doubled = path.contains("//");
    if dots || doubled {
        let normal: Vec<&str> = segments.into_iter().filter(|part| !matches!(*part, "" | "." | "..")).collect();
        let what = if dots { "`.` and `..` segments" } else { "doubled slashes" };
        let complaint = Complaint::new(format!("{what} are gone from a request's path before routes see it"));
        return Err(complaint.hint(format!("write the path as it is then, perhaps \"/{}\"", normal.join("/"))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_labels_and_urls() {
        for name in ["web", "web-1", "Shop_2.eu", "1"] {
            assert!(name_complaint(name).is_ok(), "{name}");
        }
        for name in ["", "-web", "a b", "a/b", "ü", &"x".repeat(65)] {
            assert!(name_complaint(name).is_err(), "{name}");
        }
    }

    #[test]
    fn paths_are_in_their_normal_form() {
        for path in ["/", "/api", "/api/", "/a%20b", "/a..b", "/.well-known/x"] {
            assert!(path_complaint(path).is_ok(), "{path}");
        }
        for path in ["", "api", "/a//b", "/a/../b", "/./a", "/a?b=1", "/a b", "/ü"] {
            assert!(path_complaint(path).is_err(), "{path}");
        }
    }
}
