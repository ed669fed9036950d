//! Secrets that stand in the file itself, and how they are kept out of drawings.

use std::ops::Range;

use super::{Lint, Linter};
use crate::document::Document;
use crate::place::Place;

/// Where secrets stand in a file.
const PLACES: [&[&str]; 3] =
    [&["admin", "token"], &["services", "*", "sticky", "secrets", "*"], &["telemetry", "tracing", "headers", "*"]];

/// A secret that whoever sees the file knows.
pub(super) struct Exposed {
    place: Place,
    /// Its bytes, with what stands around a string.
    span: Range<usize>,
}

/// Every secret that is no reference to a variable or a file.
pub(super) fn in_plain_text(text: &str, document: &Document<'_>) -> Vec<Exposed> {
    let secrets = document.values(|place| PLACES.iter().any(|names| place.is(names)));
    let exposed = secrets.filter(|(_, span)| text.get(span.clone()).is_some_and(|value| !value.contains("${")));
    exposed.map(|(place, span)| Exposed { place: place.clone(), span }).collect()
}

/// The text with stars in the place of secrets; all that is not secret stays where it is.
pub(super) fn masked(text: &str, exposed: &[Exposed]) -> String {
    let mut masked = text.to_owned();
    for Exposed { span, .. } in exposed {
        if let Some(value) = text.get(span.clone()) {
            masked.replace_range(span.clone(), &stars(value));
        }
    }
    masked
}

/// A string of TOML with its quotation marks and its line breaks, and a star for each other byte.
fn stars(value: &str) -> String {
    let long = value.starts_with("\"\"\"") || value.starts_with("'''");
    let mark = (if long { 3 } else { 1 }).min(value.len() / 2);
    let inside = mark..value.len() - mark;
    let star = |(index, byte): (usize, u8)| match byte {
        b'\n' | b'\r' => char::from(byte),
        _ if inside.contains(&index) => '*',
        _ => char::from(byte),
    };
    value.bytes().enumerate().map(star).collect()
}

impl Linter<'_> {
    pub(super) fn secrets(&mut self, exposed: &[Exposed]) {
        for Exposed { place, .. } in exposed {
            let message = "whoever sees the file knows this secret: it may be in backups and repositories".to_owned();
            let hint = "write \"${file:/run/secrets/NAME}\" or \"${NAME}\", and make a new secret".to_owned();
            self.remark(Lint::PlainTextSecret, place, (message, hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_only_its_length_and_its_place_remain() {
        assert_eq!(stars("\"hunter2\""), "\"*******\"");
        assert_eq!(stars("'ü\"'"), "'***'");
        assert_eq!(stars("\"\"\"\na\nb\"\"\""), "\"\"\"\n*\n*\"\"\"");
        assert_eq!(stars("\"\""), "\"\"");
    }

    #[test]
    fn no_secret_is_drawn_beside_what_is_warned_of() {
        let text = "version = 1\nadmin = { address = '127.0.0.1:0', token = 'correct horse battery' }\n\
                    listeners.web.address = '127.0.0.1:0'\nroutes.all.service = 'app'\n\
                    services.app.endpoints = [{ name = 'app-1', url = 'http://127.0.0.1:9001' }]\n\
                    services.app.sticky = { cookie = 'lb', secrets = ['${LB}', 'staple staple staple'] }\n";
        let environment = |_: &str| Some("from the environment".to_owned());
        let loaded = crate::parse(text, std::path::Path::new("x.toml"), &environment).unwrap();
        let drawn = loaded.warnings.to_string();
        assert_eq!(loaded.warnings.len(), 2, "{drawn}");
        assert!(drawn.contains("admin.token") && drawn.contains("secrets[1]") && drawn.contains("'${LB}'"), "{drawn}");
        assert!(!drawn.contains("horse") && !drawn.contains("staple"), "{drawn}");
        assert_eq!(loaded.text, text);
    }
}
