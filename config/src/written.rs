//! What the strings of a file were before their references (`${…}`) were replaced.
//!
//! Owns the way back: whoever shows a config shows where a value came from, for what came from a file may be a secret. A
//! value that was made into something else, a duration or an address, is shown as that.

/// Pairs of a value and how it is written in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Written(Vec<(String, String)>);

impl Written {
    pub(crate) fn note(&mut self, value: &str, written: &str) {
        self.0.push((value.to_owned(), written.to_owned()));
    }

    /// `toml` with every string that is such a value as it was written.
    pub(crate) fn restored(&self, toml: String) -> String {
        self.0.iter().fold(toml, |toml, (value, written)| toml.replace(&literal(value), &literal(written)))
    }
}

/// The string with its quotes, as `toml` renders it.
fn literal(text: &str) -> String {
    // In a table, because a string alone is no document.
    let table = toml::Table::from_iter([("x".to_owned(), text.into())]);
    let rendered = toml::to_string_pretty(&table).expect("a table of one string is TOML");
    rendered.trim_start_matches("x = ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::parse;

    const CONFIG: &str = r#"
        version = 1
        [admin]
        address = "127.0.0.1:0"
        token = "${TOKEN}"
        [listeners.web]
        address = "127.0.0.1:0"
        [routes.all]
        service = "app"
        middlewares = ["known"]
        [middlewares.known.headers]
        request_set = { authorization = "Bearer ${TOKEN}", x-quoted = "${QUOTED}", x-plain = "plain" }
        [services.app]
        endpoints = [{ name = "app-1", url = "http://127.0.0.1:9001" }]
    "#;

    #[test]
    fn what_came_from_a_reference_is_shown_as_it_is_written() {
        let environment = |name: &str| match name {
            "TOKEN" => Some("open sesame, please".to_owned()),
            "QUOTED" => Some(r#"a "quoted" \ word"#.to_owned()),
            _ => None,
        };
        let config = parse(CONFIG, Path::new("waypost.toml"), &environment).unwrap().config;
        let shown = config.shown();
        assert!(shown.contains(r#"authorization = "Bearer ${TOKEN}""#), "{shown}");
        assert!(shown.contains(r#"x-quoted = "${QUOTED}""#), "{shown}");
        assert!(shown.contains(r#"x-plain = "plain""#) && shown.contains(r#"token = "***""#), "{shown}");
        assert!(!shown.contains("sesame") && !shown.contains("quoted\\"), "{shown}");
    }
}
