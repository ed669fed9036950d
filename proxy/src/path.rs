//! The one form of a path: what is routed, authorised and sent upstream is the same text.
//!
//! Decides which spellings are one path and which paths are refused, so that an upstream can't read a path
//! differently from the route that let it through. Never decodes what has a meaning (RFC 3986 section 2.2): an
//! encoded slash stays encoded and is no border between segments.

use std::borrow::Cow;

use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};

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
/// use waypost::path::normalise;
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
    // A dot segment, hidden or not, begins after a slash or an escape.
    if !spelled.contains('.') || !spelled.contains("/.") && !spelled.contains('%') {
        return Ok(spelled);
    }
    if spelled.contains(['%', ';']) && spelled.split('/').any(hides_dots) {
        return Err(PathError::HiddenDots);
    }
    if spelled.split('/').any(is_dots) { remove_dot_segments(&spelled).map(Cow::Owned) } else { Ok(spelled) }
}

/// The same URI with another path, which is in normal form; scheme, authority and query stay. Fails when the URI gets
/// too long by it (a normal form can be three times as long as the path was), or never had a path (`CONNECT`).
pub fn replace(uri: &Uri, path: &str) -> http::Result<Uri> {
    let target = match uri.query() {
        Some(query) => PathAndQuery::from_maybe_shared(Bytes::from(format!("{path}?{query}"))),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target?);
    Ok(Uri::from_parts(parts)?)
}

/// Every character in its one spelling.
fn respell(path: &str) -> Result<Cow<'_, str>, PathError> {
    let plain = path.bytes().position(|byte| !BARE[usize::from(byte)]).unwrap_or(path.len());
    let mut rest = &path.as_bytes()[plain..];
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
            [value, ..] => Character { value: *value, bare: BARE[usize::from(*value)], length: 1 },
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
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` and the slash, RFC 3986 section 3.3.
const fn may_stand_bare(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

/// [`may_stand_bare`] as a table: every byte of every request's path is looked up.
const BARE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x80 {
        table[byte as usize] = may_stand_bare(byte);
        byte += 1;
    }
    table
};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(cases: &[(&str, Result<&str, PathError>)]) {
        for (path, expected) in cases {
            assert_eq!(normalise(path).as_deref(), expected.as_ref().map(|text| *text), "path {path:?}");
        }
    }

    #[test]
    fn a_path_in_normal_form_stays_as_it_is_without_a_copy() {
        let cases = [
            "/",
            "/a",
            "/a/",
            "/a/b.html",
            "//",
            "/a//b",
            "/.well-known/acme",
            "/...",
            "/a/..b/c..",
            "/a;v=1/b,c",
            "/~user/-_.",
            "/!$&'()*+,;=:@",
            "/caf%C3%A9",
            "/a%2Fb",
            "/a%20b",
            "/%25",
            "*",
        ];
        for path in cases {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(same)) if same == path), "path {path:?}");
        }
    }

    #[test]
    fn spellings_of_one_character_become_one() {
        check(&[
            ("", Ok("/")),
            ("/%61%62", Ok("/ab")),
            ("/%7Euser", Ok("/~user")),
            ("/%2D%5f%2E", Ok("/-_.")),
            ("/caf%c3%a9", Ok("/caf%C3%A9")),
            ("/café", Ok("/caf%C3%A9")),
            ("/a b", Ok("/a%20b")),
            ("/a\"<>^`{|}", Ok("/a%22%3C%3E%5E%60%7B%7C%7D")),
            ("/[1]", Ok("/%5B1%5D")),
            ("/a?b#c", Ok("/a%3Fb%23c")),
            ("/a%3ab", Ok("/a%3Ab")),
            ("/%2561", Ok("/%2561")),
            ("/x/%61%zz", Err(PathError::BadEscape)),
        ]);
    }

    #[test]
    fn an_encoded_slash_and_a_backslash_are_no_borders() {
        check(&[
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a\\b", Ok("/a%5Cb")),
            ("/a%5cb", Ok("/a%5Cb")),
            ("/a%252Fb", Ok("/a%252Fb")),
            ("/a%2F/../b", Ok("/b")),
        ]);
    }

    #[test]
    fn dot_segments_are_resolved_in_every_spelling() {
        check(&[
            ("/.", Ok("/")),
            ("/./", Ok("/")),
            ("/a/.", Ok("/a/")),
            ("/a/./b", Ok("/a/b")),
            ("/a/..", Ok("/")),
            ("/a/../", Ok("/")),
            ("/a/b/..", Ok("/a/")),
            ("/a/b/../c", Ok("/a/c")),
            ("/a/b/c/./../../g", Ok("/a/g")),
            ("/a/%2e%2e/b", Ok("/b")),
            ("/a/%2E./b", Ok("/b")),
            ("/a/.%2e/b", Ok("/b")),
            ("/a/%2e/b", Ok("/a/b")),
            ("/a//../b", Ok("/a/b")),
            ("//..", Ok("/")),
            ("/.//a", Ok("//a")),
        ]);
    }

    #[test]
    fn slashes_are_not_merged() {
        check(&[("//a", Ok("//a")), ("/a///b//", Ok("/a///b//")), ("/a/./%2e//b", Ok("/a//b"))]);
    }

    #[test]
    fn a_uri_keeps_all_but_its_path() {
        for (before, after) in [
            ("/a", "/b/c"),
            ("/a?x=/a", "/b/c?x=/a"),
            ("/a?", "/b/c?"),
            ("https://a.example:8443/a?x", "https://a.example:8443/b/c?x"),
            ("http://a.example", "http://a.example/b/c"),
        ] {
            assert_eq!(replace(&before.parse().unwrap(), "/b/c").unwrap().to_string(), after);
        }
    }

    #[test]
    fn a_normal_form_that_got_too_long_is_an_error() {
        let path = format!("/{}", "é".repeat(20_000));
        let uri: Uri = path.parse().unwrap();
        assert!(replace(&uri, &normalise(&path).unwrap()).is_err());
        assert!(replace(&"a.example:443".parse().unwrap(), "/a").is_err());
    }

    #[test]
    fn what_an_upstream_may_read_differently_is_refused() {
        check(&[
            ("a", Err(PathError::NotAbsolute)),
            ("*a", Err(PathError::NotAbsolute)),
            ("%2Fa", Err(PathError::NotAbsolute)),
            ("/..", Err(PathError::AboveRoot)),
            ("/../a", Err(PathError::AboveRoot)),
            ("/a/../../b", Err(PathError::AboveRoot)),
            ("/a/%2e%2e/%2e%2e", Err(PathError::AboveRoot)),
            ("/%00", Err(PathError::Control)),
            ("/a%0d%0aSet-Cookie:x", Err(PathError::Control)),
            ("/a%7F", Err(PathError::Control)),
            ("/a\u{7f}", Err(PathError::Control)),
            ("/a\tb", Err(PathError::Control)),
            ("/%", Err(PathError::BadEscape)),
            ("/%2", Err(PathError::BadEscape)),
            ("/%g0", Err(PathError::BadEscape)),
            ("/%+1", Err(PathError::BadEscape)),
            ("/%2é", Err(PathError::BadEscape)),
            ("/public/..%2Fadmin", Err(PathError::HiddenDots)),
            ("/public/%2e%2e%2fadmin", Err(PathError::HiddenDots)),
            ("/public/..\\admin", Err(PathError::HiddenDots)),
            ("/public/x%5C.%5Cadmin", Err(PathError::HiddenDots)),
            ("/public/..;/admin", Err(PathError::HiddenDots)),
            ("/public/..;a=b/admin", Err(PathError::HiddenDots)),
        ]);
    }

    /// Text in which what matters is frequent.
    fn paths() -> impl Strategy<Value = String> {
        const PIECES: [&str; 17] =
            ["/", "/", ".", "..", "%2e", "%2F", "%5c", "%", "%C3%a9", "é", "\\", ";", "a", "B", "%41", " ", "//"];
        proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..12)
            .prop_map(|pieces| "/".to_owned() + &pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_normal_form_is_its_own_normal_form(path in paths()) {
            if let Ok(normal) = normalise(&path) {
                prop_assert!(matches!(normalise(&normal), Ok(Cow::Borrowed(same)) if same == normal));
            }
        }

        #[test]
        fn a_normal_form_is_a_path_without_dot_segments(path in paths()) {
            if let Ok(normal) = normalise(&path) {
                prop_assert!(normal.starts_with('/'));
                prop_assert!(normal.bytes().all(|byte| byte == b'%' || may_stand_bare(byte)));
                prop_assert!(!normal.split('/').any(|segment| matches!(segment, "." | "..")));
                prop_assert!(PathAndQuery::try_from(normal.as_ref()).is_ok());
            }
        }
    }
}
