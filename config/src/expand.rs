//! `${NAME}` and `${file:/path}` in the strings of a file.
//!
//! Decides what is a reference and what is not. `$1` and `${name}` in a redirect's target are groups of its regular
//! expression and stay; `$${` is a plain `${`. Never prints what it read.

use std::path::{Path, PathBuf};

use crate::place::Place;
use crate::problem::Complaint;
use crate::written::Written;

/// Where references are looked up.
pub(crate) struct Expander<'a> {
    /// Relative file names start here.
    pub(crate) directory: &'a Path,
    /// The variables.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// Every file that was read.
    pub(crate) files: Vec<PathBuf>,
    /// Every string that was replaced.
    pub(crate) written: Written,
}

/// What stands between `${` and `}`.
enum Reference<'t> {
    Variable(&'t str),
    File(&'t str),
    Group,
}

impl Expander<'_> {
    /// The string with its references replaced; `None` when it has none.
    pub(crate) fn expand(&mut self, text: &str, place: &Place) -> Result<Option<String>, Complaint> {
        if !text.contains("${") {
            return Ok(None);
        }
        let groups = place.ends_with(&["redirect", "to"]);
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, reference) = rest.split_at(start);
            let Some(end) = reference.find('}') else { break };
            let inside = &reference[2..end];
            match (before.strip_suffix('$'), Reference::of(inside)) {
                (_, Reference::Group) if groups => {
                    expanded.push_str(before);
                    expanded.push_str(&reference[..=end]);
                }
                (Some(before), _) => {
                    expanded.push_str(before);
                    expanded.push_str(&reference[..=end]);
                }
                (None, reference) => {
                    expanded.push_str(before);
                    expanded.push_str(&self.look_up(&reference, inside)?);
                }
            }
            rest = &reference[end + 1..];
        }
        expanded.push_str(rest);
        self.written.note(&expanded, text);
        Ok(Some(expanded))
    }

    fn look_up(&mut self, reference: &Reference<'_>, inside: &str) -> Result<String, Complaint> {
        match reference {
            Reference::Variable(name) => (self.environment)(name).ok_or_else(|| no_variable(name)),
            Reference::File(name) => self.read(name),
            Reference::Group => Err(no_reference(inside)),
        }
    }

    fn read(&mut self, name: &str) -> Result<String, Complaint> {
        let path = self.directory.join(name);
        let content = std::fs::read_to_string(&path);
        self.files.push(path);
        let mut content =
            content.map_err(|error| Complaint::new(format!("the file `{name}` can't be read: {}", reason(&error))))?;
        if content.ends_with('\n') {
            content.pop();
        }
        Ok(content)
    }
}

impl<'t> Reference<'t> {
    fn of(inside: &'t str) -> Reference<'t> {
        match inside.strip_prefix("file:") {
            Some(path) => Reference::File(path),
            None if is_variable(inside) => Reference::Variable(inside),
            None => Reference::Group,
        }
    }
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_uppercase() || byte == b'_');
    first && bytes.all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn no_variable(name: &str) -> Complaint {
    Complaint::new(format!("the environment has no variable `{name}`")).hint(format!(
        "set it where Waypost is started, or read it from a file: \"${{file:/run/secrets/{}}}\"",
        name.to_ascii_lowercase()
    ))
}

fn no_reference(inside: &str) -> Complaint {
    let complaint = Complaint::new(format!("`${{{inside}}}` is neither a variable nor a file"));
    let upper = inside.to_ascii_uppercase().replace('-', "_");
    if is_variable(&upper) {
        complaint
            .hint(format!("variables are in capitals: \"${{{upper}}}\"; for the text itself write \"$${{{inside}}}\""))
    } else {
        complaint.hint("write \"${NAME}\", \"${file:/path}\", or \"$${\" for a plain \"${\"")
    }
}

/// Why a file can't be read, in words that are the same everywhere.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "no permission".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str, place: &Place) -> Result<String, String> {
        let environment = |name: &str| (name == "SECRET").then(|| "s3cret".to_owned());
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "from file\n\n").unwrap();
        let mut expander = Expander {
            directory: directory.path(),
            environment: &environment,
            files: Vec::new(),
            written: Written::default(),
        };
        let result = expander.expand(text, place).map_err(|complaint| complaint.message)?;
        Ok(result.unwrap_or_else(|| text.to_owned()))
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(expand(text, &Place::root()), Ok(expected.to_owned()));
    }

    #[test]
    fn variables_and_files_are_put_in() {
        check("plain", "plain");
        check("${SECRET}", "s3cret");
        check("a ${SECRET} b ${SECRET}", "a s3cret b s3cret");
        check("${file:token}", "from file\n");
    }

    #[test]
    fn a_dollar_that_is_no_reference_stays() {
        check("$1 and $$ and $SECRET", "$1 and $$ and $SECRET");
        check("${SECRET", "${SECRET");
        check("$${SECRET}", "${SECRET}");
        check("$${name}", "${name}");
    }

    #[test]
    fn groups_stay_in_the_target_of_a_redirect() {
        let to = Place::root().keys(&["middlewares", "www", "redirect", "to"]);
        assert_eq!(expand("https://${name}/$1", &to).unwrap(), "https://${name}/$1");
        assert_eq!(expand("$${name}", &to).unwrap(), "$${name}");
        assert_eq!(expand("${SECRET}${name}", &to).unwrap(), "s3cret${name}");
    }

    #[test]
    fn a_missing_reference_is_named_and_never_empty() {
        let message = |text: &str| expand(text, &Place::root()).unwrap_err();
        assert_eq!(message("${NOPE}"), "the environment has no variable `NOPE`");
        assert_eq!(message("${file:nope}"), "the file `nope` can't be read: it does not exist");
        assert_eq!(message("${secret}"), "`${secret}` is neither a variable nor a file");
    }
}
