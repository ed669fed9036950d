//! The configuration reference for users, generated from the schema.
//!
//! Decides how the schema reads as a page: one section a table, one row a key, with type, default and meaning. The
//! words come from the types' own documentation, so that there is one place to write them.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const EXAMPLE: &str = include_str!("example.toml");

const OPENING: &str = include_str!("reference_opening.md");

/// The reference as Markdown.
pub fn reference() -> String {
    let schema = crate::schema::value();
    let mut page = Page { defs: &schema["$defs"], text: OPENING.replace("{{example}}", EXAMPLE), values: Vec::new() };
    page.table(&Section { place: String::new(), list: false }, &schema);
    page.values();
    page.text
}

/// The page so far.
struct Page<'s> {
    defs: &'s Value,
    text: String,
    /// Names of the value types met, each described once at the end.
    values: Vec<String>,
}

/// Where a table stands in a file.
struct Section {
    /// `services.NAME.retry`; empty for the file.
    place: String,
    /// Whether it is a member of a list.
    list: bool,
}

impl Section {
    fn inner(&self, key: &str, shape: &Shape<'_>) -> Section {
        let dot = if self.place.is_empty() { "" } else { "." };
        let name = if matches!(shape, Shape::ByName(_)) { ".NAME" } else { "" };
        Section { place: format!("{}{dot}{key}{name}", self.place), list: matches!(shape, Shape::Many(_)) }
    }

    fn title(&self) -> String {
        match (self.place.as_str(), self.list) {
            ("", _) => "The file".to_owned(),
            (place, true) => format!("`[[{place}]]`"),
            (place, false) => format!("`[{place}]`"),
        }
    }

    /// The heading's anchor, as GitHub makes it.
    fn anchor(&self) -> String {
        let kept = |letter: &char| letter.is_ascii_alphanumeric() || "_-".contains(*letter);
        self.place.to_lowercase().chars().filter(kept).collect()
    }
}

/// What a key holds.
enum Shape<'s> {
    /// A table with keys of its own.
    One(&'s Value),
    /// A list of such tables.
    Many(&'s Value),
    /// Such tables by name.
    ByName(&'s Value),
    /// One of several such tables.
    Either(Vec<&'s Value>),
    /// A table by name of which each is one kind: the kinds.
    Kinds(Vec<&'s Value>),
    /// Anything without keys.
    Plain,
}

impl<'s> Page<'s> {
    fn table(&mut self, section: &Section, schema: &'s Value) {
        self.heading(section, schema);
        self.rows(section, schema);
        self.inner_tables(section, schema);
    }

    fn heading(&mut self, section: &Section, schema: &Value) {
        let level = if section.place.matches('.').count() > 1 { "###" } else { "##" };
        let _ = writeln!(self.text, "\n{level} {}\n", section.title());
        let description = sentence(schema);
        if !section.place.is_empty() && !description.is_empty() {
            let _ = writeln!(self.text, "{description}\n");
        }
    }

    fn rows(&mut self, section: &Section, schema: &'s Value) {
        let Some(properties) = properties(schema) else {
            self.text.push_str("No keys yet.\n");
            return;
        };
        self.text.push_str("| Key | Type | Default | Meaning |\n|---|---|---|---|\n");
        for (key, property) in properties {
            let row = self.row(section, (key, property), is_required(schema, key));
            self.text.push_str(&row);
        }
    }

    fn row(&mut self, section: &Section, (key, property): (&str, &'s Value), default: Required) -> String {
        let kind = self.kind(section, key, property);
        let default = match default {
            Required::Yes => "required".to_owned(),
            Required::No => default_text(property),
        };
        let meaning = format!("{}{}", sentence(property), self.choices(property));
        format!("| `{key}` | {kind} | {default} | {meaning} |\n")
    }

    fn inner_tables(&mut self, section: &Section, schema: &'s Value) {
        for (key, property) in properties(schema).into_iter().flatten() {
            let shape = self.shape(property);
            let inner = section.inner(key, &shape);
            match shape {
                Shape::One(table) | Shape::Many(table) | Shape::ByName(table) => self.table(&inner, table),
                Shape::Either(tables) => self.either(&inner, &tables),
                Shape::Kinds(kinds) => self.kinds(&inner, &kinds),
                Shape::Plain => {}
            }
        }
    }

    fn either(&mut self, section: &Section, tables: &[&'s Value]) {
        let _ = writeln!(self.text, "\n### {}\n\nOne of these, told apart by their required key:\n", section.title());
        for table in tables {
            let _ = writeln!(self.text, "{}\n", sentence(table));
            self.rows(section, table);
            self.text.push('\n');
        }
        self.text.truncate(self.text.trim_end().len());
        self.text.push('\n');
    }

    fn kinds(&mut self, section: &Section, kinds: &[&'s Value]) {
        let _ = writeln!(self.text, "\n## {}\n", section.title());
        let _ = writeln!(
            self.text,
            "Each middleware is exactly one of these kinds. A route names those it wants in `middlewares`.\n"
        );
        self.text.push_str("| Kind | Type | Meaning |\n|---|---|---|\n");
        let place = Section { place: format!("{}.NAME", section.place), list: false };
        for kind in kinds {
            for (key, property) in properties(kind).into_iter().flatten() {
                let row = format!("| `{key}` | {} | {} |\n", self.kind(&place, key, property), sentence(kind));
                self.text.push_str(&row);
            }
        }
        for kind in kinds {
            self.inner_tables(&place, kind);
        }
    }

    /// The type of a key, for the table.
    fn kind(&mut self, section: &Section, key: &str, property: &'s Value) -> String {
        let shape = self.shape(property);
        let link = |section: &Section| format!("(#{})", section.anchor());
        let inner = section.inner(key, &shape);
        match shape {
            Shape::One(_) | Shape::Either(_) => format!("[table]{}", link(&inner)),
            Shape::Many(_) => format!("[list of tables]{}", link(&inner)),
            Shape::ByName(_) | Shape::Kinds(_) => format!("[tables by name]{}", link(&inner)),
            Shape::Plain => self.plain_kind(property),
        }
    }

    fn plain_kind(&mut self, property: &'s Value) -> String {
        if let Some(name) = reference_name(property) {
            return self.value_kind(name);
        }
        match type_of(property) {
            "array" => match self.plain_kind(&property["items"]).as_str() {
                "string" => "list of strings".to_owned(),
                kind => format!("list of {kind}"),
            },
            "object" => match property.get("propertyNames").and_then(reference_name) {
                Some(name) => format!("table: {} = string", self.value_kind(name)),
                None => "table of strings".to_owned(),
            },
            "boolean" => "true or false".to_owned(),
            "integer" => "whole number".to_owned(),
            kind => kind.to_owned(),
        }
    }

    /// The type of a value that has one of its own: a set of words, or a link to its description.
    fn value_kind(&mut self, name: &str) -> String {
        let def = &self.defs[name];
        let words: Vec<&str> = choices(def).map(|(word, _)| word).collect();
        if !words.is_empty() {
            return words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
        }
        if !self.values.iter().any(|known| known == name) {
            self.values.push(name.to_owned());
        }
        format!("[{}](#values)", words_of(name))
    }

    /// What each word of a set of words means.
    fn choices(&self, property: &Value) -> String {
        let Some(name) = reference_name(property) else { return String::new() };
        choices(&self.defs[name]).fold(String::new(), |mut text, (word, meaning)| {
            let _ = write!(text, "<br>`\"{word}\"`: {}", one_line(meaning));
            text
        })
    }

    fn values(&mut self) {
        self.text.push_str("\n## Values\n\n| Type | What it is | Example |\n|---|---|---|\n");
        for name in std::mem::take(&mut self.values) {
            let def = &self.defs[&name];
            let example = def["examples"][0].as_str().map(|example| format!("`\"{example}\"`")).unwrap_or_default();
            let _ = writeln!(self.text, "| {} | {} | {example} |", words_of(&name), sentence(def));
        }
    }

    fn shape(&self, property: &'s Value) -> Shape<'s> {
        if let Some(name) = reference_name(property) {
            return self.def_shape(name);
        }
        if let Some(Shape::One(table)) = property.get("items").map(|items| self.shape(items)) {
            return Shape::Many(table);
        }
        match property.get("additionalProperties").filter(|inner| inner.is_object()).map(|inner| self.shape(inner)) {
            Some(Shape::One(table)) => Shape::ByName(table),
            Some(Shape::Kinds(kinds)) => Shape::Kinds(kinds),
            _ => Shape::Plain,
        }
    }

    fn def_shape(&self, name: &str) -> Shape<'s> {
        let def = &self.defs[name];
        let either = def["anyOf"].as_array().into_iter().flatten();
        let tables: Vec<&Value> = either.filter_map(reference_name).map(|name| &self.defs[name]).collect();
        if !tables.is_empty() {
            return Shape::Either(tables);
        }
        let kinds: Vec<&Value> = def["oneOf"].as_array().into_iter().flatten().collect();
        if !kinds.is_empty() && kinds.iter().all(|kind| properties(kind).is_some()) {
            return Shape::Kinds(kinds);
        }
        if type_of(def) == "object" { Shape::One(def) } else { Shape::Plain }
    }
}

/// Whether a key must be there.
#[derive(Clone, Copy)]
enum Required {
    Yes,
    No,
}

fn is_required(schema: &Value, key: &str) -> Required {
    let required = schema["required"].as_array().is_some_and(|keys| keys.iter().any(|required| required == key));
    if required { Required::Yes } else { Required::No }
}

fn properties(schema: &Value) -> Option<impl Iterator<Item = (&str, &Value)>> {
    let properties: &Map<String, Value> = schema.get("properties")?.as_object()?;
    Some(properties.iter().map(|(key, property)| (key.as_str(), property)))
}

/// The definition a property is of, also when it may be left out.
fn reference_name(property: &Value) -> Option<&str> {
    let direct = property.get("$ref").or_else(|| property["anyOf"].get(0)?.get("$ref"));
    direct?.as_str()?.strip_prefix("#/$defs/")
}

fn type_of(schema: &Value) -> &str {
    schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("string")
}

/// The words of a set of words, each with its meaning.
fn choices(def: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = def["oneOf"].as_array().into_iter().flatten();
    all.filter_map(|choice| Some((choice["const"].as_str()?, choice["description"].as_str()?)))
}

fn default_text(property: &Value) -> String {
    match &property["default"] {
        Value::Null => "none".to_owned(),
        Value::Object(default) if default.is_empty() => "none".to_owned(),
        Value::Object(_) => "see there".to_owned(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        default => format!("`{default}`"),
    }
}

fn sentence(schema: &Value) -> String {
    one_line(schema["description"].as_str().unwrap_or_default())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// `UpstreamUrl` as words: `upstream url`.
fn words_of(name: &str) -> String {
    name.chars().fold(String::new(), |mut words, letter| {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_of_the_page_leads_to_a_heading() {
        let page = reference();
        let headings: Vec<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
            .map(|line| line.chars().filter(|c| c.is_alphanumeric() || "_-".contains(*c)).collect())
            .collect();
        let links: Vec<&str> = page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(links.len() > 20);
        for link in links {
            assert!(headings.iter().any(|heading| heading == link), "no heading for #{link}");
        }
    }

    #[test]
    fn every_key_of_the_format_has_a_meaning() {
        let page = reference();
        let bare = |line: &&str| line.starts_with("| `") && line.ends_with("|  |");
        assert_eq!(page.lines().filter(bare).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
