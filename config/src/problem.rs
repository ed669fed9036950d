//! What is wrong with a file or doubtful in it, where, and what to write instead.
//!
//! Owns [`Problem`], [`Problems`] and their drawing. Never decides whether something is wrong.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Serialize, Serializer};

use crate::lint::Lint;
use crate::place::Place;

/// One mistake in a configuration file, or one warning about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named to the loader.
    pub file: String,
    /// Line of the place, counted from 1.
    pub line: usize,
    /// Column of the place in characters, counted from 1.
    pub column: usize,
    /// The place in TOML's terms, for example `services.shop.endpoints[1].url`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, in lower case, without a period.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The lint that warns; absent for a mistake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lint: Option<Lint>,
    #[serde(skip)]
    mark: Mark,
}

/// What the drawing points at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    span: Range<usize>,
    related: Option<(Range<usize>, String)>,
}

/// All mistakes of one file, or all warnings about it, in the order of the file. Shows itself as a drawing of each place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    file: String,
    text: String,
    list: Vec<Problem>,
}

impl Problems {
    /// Puts finds in the order of the file.
    pub(crate) fn new(file: &str, text: &str, finds: Vec<Find>) -> Problems {
        Problems { file: file.to_owned(), text: text.to_owned(), list: Vec::new() }.with(finds)
    }

    /// The same and these, in the order of the file.
    pub(crate) fn with(mut self, finds: Vec<Find>) -> Problems {
        self.list.extend(finds.into_iter().map(|find| find.at(&self.file, &self.text)));
        self.list.sort_by_key(|problem| (problem.line, problem.column));
        self
    }

    /// The text that is drawn.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The problems, first line first.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are; of mistakes never 0.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is nothing to warn of.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The drawing with terminal colours.
    pub fn coloured(&self) -> String {
        self.draw(&Renderer::styled())
    }

    fn draw(&self, renderer: &Renderer) -> String {
        let drawings: Vec<String> = self.list.iter().map(|problem| problem.draw(&self.text, renderer)).collect();
        drawings.join("\n\n")
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.draw(&Renderer::plain()))
    }
}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}

impl std::error::Error for Problems {}

impl Problem {
    fn draw(&self, text: &str, renderer: &Renderer) -> String {
        let mut snippet = Snippet::source(text)
            .path(self.file.as_str())
            .annotation(AnnotationKind::Primary.span(self.mark.span.clone()));
        if let Some((span, label)) = &self.mark.related {
            snippet = snippet.annotation(AnnotationKind::Context.span(span.clone()).label(label.as_str()));
        }
        let title = match self.lint {
            Some(lint) => Level::WARNING.primary_title(self.title()).id(lint.name()),
            None => Level::ERROR.primary_title(self.title()),
        };
        let mut group = Group::with_title(title).element(snippet);
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }

    fn title(&self) -> String {
        if self.path.is_empty() { self.message.clone() } else { format!("{}: {}", self.path, self.message) }
    }
}

/// A problem before lines and columns are counted.
#[derive(Debug, Clone)]
pub(crate) struct Find {
    /// Bytes of the text it is about.
    pub(crate) span: Range<usize>,
    /// The same in TOML's terms.
    pub(crate) place: Place,
    /// What is wrong.
    pub(crate) complaint: Complaint,
    /// Another place that has to do with it, and how.
    pub(crate) related: Option<(Range<usize>, String)>,
    /// The lint that warns; absent for a mistake.
    pub(crate) lint: Option<Lint>,
}

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// What is wrong, in lower case, without a period.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Complaint {
    /// A complaint that speaks for itself.
    pub(crate) fn new(message: impl Into<String>) -> Complaint {
        Complaint { message: message.into(), hint: None }
    }

    /// The same with advice.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Complaint {
        Complaint { hint: Some(hint.into()), ..self }
    }

    /// The same with advice, where there is some.
    pub(crate) fn maybe_hint(self, hint: Option<String>) -> Complaint {
        Complaint { hint: hint.or(self.hint), ..self }
    }
}

impl Find {
    fn at(self, file: &str, text: &str) -> Problem {
        let (line, column) = position(text, self.span.start);
        Problem {
            file: file.to_owned(),
            line,
            column,
            path: self.place.to_string(),
            message: self.complaint.message,
            hint: self.complaint.hint,
            lint: self.lint,
            mark: Mark { span: self.span, related: self.related },
        }
    }
}

/// Line and column in characters, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        assert_eq!(position("a = 1\nü = 2\n", 6), (2, 1));
        assert_eq!(position("a = 1\nü = 2\n", 8), (2, 2));
        assert_eq!(position("", 0), (1, 1));
    }

    #[test]
    fn problems_are_listed_in_file_order_and_serialize_with_their_place() {
        let find = |span: Range<usize>, message: &str| Find {
            span,
            place: Place::root().key("b"),
            complaint: Complaint::new(message).hint("do better"),
            related: None,
            lint: None,
        };
        let problems = Problems::new("x.toml", "a = 1\nb = 2\n", vec![find(6..7, "second"), find(0..1, "first")]);
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["first", "second"]);
        let json = serde_json::to_value(&problems).unwrap();
        let second = serde_json::json!({
            "file": "x.toml", "line": 2, "column": 1, "path": "b", "message": "second", "hint": "do better"
        });
        assert_eq!(json[1], second);
    }

    #[test]
    fn a_warning_is_called_one_by_the_name_of_its_lint() {
        let find = |lint| {
            let complaint = Complaint::new("no good");
            Find { span: 0..1, place: Place::root(), complaint, related: None, lint }
        };
        let drawn = |lint| Problems::new("x.toml", "a = 1\n", vec![find(lint)]).to_string();
        assert!(drawn(Some(Lint::UnusedService)).starts_with("warning[unused_service]: no good"));
        assert!(drawn(None).starts_with("error: no good"));
    }

    #[test]
    fn the_drawing_has_colours_only_when_asked() {
        let complaint = Complaint::new("no good");
        let find = Find { span: 0..1, place: Place::root(), complaint, related: None, lint: None };
        let problems = Problems::new("x.toml", "a = 1\n", vec![find]);
        assert!(!problems.to_string().contains('\u{1b}'));
        assert!(problems.coloured().contains('\u{1b}'));
    }
}
