//! The one form of a path: what is routed, authorised and sent upstream is the same text.
//!
//! Decides which spellings are one path and which paths are refused, so that an upstream can't read a path
//! differently from the route that let it through. Never decodes what has a meaning (RFC 3986 section 2.2): an
//! encoded slash stays encoded and is no border between segments.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("a path begins with `/`")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits after it.
    #[error("`%` is not followed by two hexadecimal digits")]
    BadEscape,
    /// A control character, bare or encoded.
    #[error("control characters are not allowed in a path")]
    Control,
    /// `..` beyond the root.
    #[error("the path climbs above its root")]
    AboveRoot,
    /// A dot segment between encoded slashes or backslashes, or with a parameter: `..%2F`, `..%5C`, `..;`.
    #[error("the path hides a dot segment")]
    HiddenDots,
}

/// The normal form of a request's path (without query): unreserved characters bare, all other escapes in upper case,
/// what may not stand bare in a path escaped, dot segments removed (RFC 3986 sections 5.2.4 and 6.2.2). Slashes are
/// not merged. Borrows when nothing has to change. An empty path is `/`; `*` (RFC 9112 section 3.2.4) stays.
///
/// ```
/// use waypost::router::path::normalise;
/// assert_eq!(normalise("/a/./b/%2e%2e/%7euser/%c3%a9").unwrap(), "/a/~user/%C3%A9");
/// assert!(normalise("/a/../../b").is_err());
/// ```
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    match path {
        "" => return Ok(Cow::Borrowed("/")),
        "*" => return Ok(Cow::Borrowed(path)),
        _ if !path.starts_with('/') => return Err(PathError::NotAbsolute),
        _ => {}
    }
    let spelled = respell(path)?;
    if !spelled.contains('.') {
        return Ok(spelled);
    }
    if spelled.split('/').any(hides_dots) {
        return Err(PathError::HiddenDots);
    }
    if spelled.split('/').any(is_dots) { remove_dot_segments(&spelled).map(Cow::Owned) } else { Ok(spelled) }
}

/// Every character in its one spelling.
fn respell(path: &str) -> Result<Cow<'_, str>, PathError> {
    let mut rest = path.as_bytes();
    let mut changed: Option<String> = None;
    while let Some(character) = Character::first_of(rest)? {
        let (this, below) = rest.split_at(character.length);
        if changed.is_none() && !character.is_spelled(this) {
            changed = Some(path[..path.len() - rest.len()].to_owned());
        }
        if let Some(text) = &mut changed {
            character.spell(text);
        }
        rest = below;
    }
    Ok(changed.map_or(Cow::Borrowed(path), Cow::Owned))
}

/// One byte of a path, bare or escaped.
struct Character {
    value: u8,
    /// Whether its normal form is bare.
    bare: bool,
    /// How long it is as it came: 1 or 3.
    length: usize,
}

impl Character {
    fn first_of(text: &[u8]) -> Result<Option<Character>, PathError> {
        let character = match text {
            [] => return Ok(None),
            [b'%', rest @ ..] => {
                let value = unescape(rest).ok_or(PathError::BadEscape)?;
                Character { value, bare: is_unreserved(value), length: 3 }
            }
            [value, ..] => Character { value: *value, bare: may_stand_bare(*value), length: 1 },
        };
        if character.value.is_ascii_control() { Err(PathError::Control) } else { Ok(Some(character)) }
    }

    fn is_spelled(&self, text: &[u8]) -> bool {
        match text {
            [b'%', digits @ ..] => !self.bare && !digits.iter().any(u8::is_ascii_lowercase),
            _ => self.bare,
        }
    }

    fn spell(&self, text: &mut String) {
        if self.bare {
            text.push(char::from(self.value));
        } else {
            text.push_str(percent_encoding::percent_encode_byte(self.value));
        }
    }
}

fn unescape(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `pchar` and the slash, RFC 3986 section 3.3.
fn may_stand_bare(byte: u8) -> bool {
    is_unreserved(byte) || b"/!$&'()*+,;=:@".contains(&byte)
}

fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// Whether an upstream that takes an encoded slash or a backslash for a border, or cuts parameters off a segment, would
/// see a dot segment where we see none.
fn hides_dots(segment: &str) -> bool {
    let mut pieces = segment.split("%2F").flat_map(|piece| piece.split("%5C"));
    !is_dots(segment) && pieces.any(|piece| is_dots(piece.split(';').next().unwrap_or(piece)))
}

fn remove_dot_segments(path: &str) -> Result<String, PathError> {
    let mut kept = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => kept.truncate(kept.rfind('/').ok_or(PathError::AboveRoot)?),
            _ => kept.extend(["/", segment]),
        }
    }
    // What ends in a dot segment names a directory.
    if path.rsplit('/').next().is_some_and(is_dots) {
        kept.push('/');
    }
    Ok(kept)
}
