//! Where in the configuration something is: `services.shop.endpoints[1].url`.
//!
//! Owns the spelling of such paths. Never knows lines and columns; `document` does.

use std::fmt;

/// A way from the root of the file to one of its values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place(Vec<Step>);

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
    pub(crate) fn root() -> Place {
        Place::default()
    }

    /// The value of a key in this table.
    pub(crate) fn key(&self, name: &str) -> Place {
        self.with(Step::Key(name.to_owned()))
    }

    /// The values of keys in tables, from outside in.
    pub(crate) fn keys(&self, names: &[&str]) -> Place {
        names.iter().fold(self.clone(), |place, name| place.key(name))
    }

    /// A member of this list.
    pub(crate) fn index(&self, index: usize) -> Place {
        self.with(Step::Index(index))
    }

    /// The steps from outside in.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether the last steps are these keys.
    pub(crate) fn ends_with(&self, names: &[&str]) -> bool {
        let last = self.0.iter().rev().zip(names.iter().rev());
        self.0.len() >= names.len() && last.into_iter().all(|(step, name)| step.is_key(name))
    }

    fn with(&self, step: Step) -> Place {
        let mut steps = self.0.clone();
        steps.push(step);
        Place(steps)
    }
}

impl Step {
    fn is_key(&self, name: &str) -> bool {
        matches!(self, Step::Key(key) if key == name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
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
