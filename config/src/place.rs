//! Where in the configuration something is: `services.shop.endpoints[1].url`.
//!
//! Owns the spelling of such paths. Never knows lines and columns; `document` does.

use std::fmt;
use std::rc::Rc;

/// A way from the root of the file to one of its values. Cheap to clone and to prolong: every key and value of a file
/// has one, and a file may have a hundred thousand of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(Option<Rc<Way>>);

#[derive(Debug, PartialEq, Eq)]
struct Way {
    last: Step,
    before: Place,
}

/// One step of a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a table.
    Key(String),
    /// Into a list, counted from 0.
    Index(usize),
}

impl Place {
    /// The file as a whole.
    pub fn root() -> Place {
        Place::default()
    }

    /// The value of a key in this table.
    #[must_use]
    pub fn key(&self, name: &str) -> Place {
        self.with(Step::Key(name.to_owned()))
    }

    /// The values of keys in tables, from outside in.
    #[must_use]
    pub fn keys(&self, names: &[&str]) -> Place {
        names.iter().fold(self.clone(), |place, name| place.key(name))
    }

    /// A member of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Place {
        self.with(Step::Index(index))
    }

    /// The steps from outside in.
    pub(crate) fn steps(&self) -> Vec<&Step> {
        let mut steps: Vec<&Step> = self.steps_back().collect();
        steps.reverse();
        steps
    }

    /// Whether the last steps are these keys.
    pub(crate) fn ends_with(&self, names: &[&str]) -> bool {
        let mut steps = self.steps_back();
        names.iter().rev().all(|name| steps.next().is_some_and(|step| step.is_key(name)))
    }

    /// Whether these are all its steps; `*` stands for any one.
    pub(crate) fn is(&self, names: &[&str]) -> bool {
        let mut steps = self.steps_back();
        let fits = |name: &&str| steps.next().is_some_and(|step| *name == "*" || step.is_key(name));
        names.iter().rev().all(fits) && steps.next().is_none()
    }

    fn steps_back(&self) -> impl Iterator<Item = &Step> {
        std::iter::successors(self.0.as_deref(), |way| way.before.0.as_deref()).map(|way| &way.last)
    }

    fn with(&self, step: Step) -> Place {
        Place(Some(Rc::new(Way { last: step, before: self.clone() })))
    }
}

impl Step {
    fn is_key(&self, name: &str) -> bool {
        matches!(self, Step::Key(key) if key == name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps().into_iter().enumerate() {
            match step {
                Step::Index(index) => write!(formatter, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if position == 0 { "" } else { "." };
                    write!(formatter, "{dot}{}", Quoted(key))?;
                }
            }
        }
        Ok(())
    }
}

/// A key as TOML wants it: bare where it can be, in quotes elsewhere.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !self.0.is_empty() && self.0.bytes().all(bare) {
            formatter.write_str(self.0)
        } else {
            write!(formatter, "{:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_like_toml() {
        let place = Place::root().keys(&["services", "shop", "endpoints"]).index(1).key("url");
        assert_eq!(place.to_string(), "services.shop.endpoints[1].url");
        assert_eq!(Place::root().keys(&["routes", "a b"]).to_string(), "routes.\"a b\"");
        assert_eq!(Place::root().to_string(), "");
    }

    #[test]
    fn the_end_of_a_place_is_recognised() {
        let place = Place::root().keys(&["middlewares", "www", "redirect", "to"]);
        assert!(place.ends_with(&["redirect", "to"]));
        assert!(!place.ends_with(&["www", "to"]));
        assert!(!Place::root().ends_with(&["to"]));
    }
}
