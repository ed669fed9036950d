//! A second reader of requests, which knows no leniency and shares no code with the first: what it cannot read in one
//! way it panics at.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, header};

use super::{Message, without_claims};

/// The request at the front of `bytes`, and what is behind it.
pub fn read(bytes: &[u8]) -> (Message, &[u8]) {
    let (head, rest) = cut(bytes, b"\r\n\r\n");
    let mut lines = split(head).into_iter();
    let first = text(lines.next().unwrap_or_default());
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { panic!("no request line: {first:?}") };
    assert!(method.bytes().all(is_of_a_token) && !method.is_empty(), "no method: {first:?}");
    assert!(target.starts_with('/') || target == "*", "no target: {first:?}");
    let mut fields = fields(lines);
    assert_eq!(fields.get_all(header::HOST).iter().count(), 1, "hosts");
    let (body, trailers, rest) = body(&fields, rest);
    without_claims(&mut fields);
    (Message { method: method.to_owned(), target: target.to_owned(), fields, body, trailers }, rest)
}

fn body<'a>(fields: &HeaderMap, rest: &'a [u8]) -> (Option<Vec<u8>>, HeaderMap, &'a [u8]) {
    let lengths: Vec<&HeaderValue> = fields.get_all(header::CONTENT_LENGTH).iter().collect();
    let codings: Vec<&HeaderValue> = fields.get_all(header::TRANSFER_ENCODING).iter().collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => (None, HeaderMap::new(), rest),
        ([length], []) => {
            let length: usize = text(length.as_bytes()).parse().expect("a length");
            let (body, rest) = rest.split_at(length);
            ((length > 0).then(|| body.to_vec()), HeaderMap::new(), rest)
        }
        ([], [coding]) if *coding == "chunked" => chunks(rest),
        _ => panic!("two lengths: {lengths:?}, {codings:?}"),
    }
}

/// A body in chunks, its trailers, and what is behind it.
pub fn chunks(mut rest: &[u8]) -> (Option<Vec<u8>>, HeaderMap, &[u8]) {
    let mut body = Vec::new();
    loop {
        let (line, behind) = cut(rest, b"\r\n");
        // What comes behind a size is passed over; we send nothing there.
        let size = line.split(|byte| b" \t;".contains(byte)).next().unwrap_or_default();
        assert!(!size.is_empty() && size.iter().all(u8::is_ascii_hexdigit), "no size: {}", size.escape_ascii());
        match usize::from_str_radix(text(size), 16).expect("a size") {
            0 => {
                // The empty line ends the trailers, or is all there is of them.
                let (lines, behind) = if let Some(behind) = behind.strip_prefix(b"\r\n") {
                    (&b""[..], behind)
                } else {
                    cut(behind, b"\r\n\r\n")
                };
                let lines = split(lines).into_iter().filter(|line| !line.is_empty());
                return (Some(body), fields(lines), behind);
            }
            size => {
                body.extend_from_slice(&behind[..size]);
                rest = behind[size..].strip_prefix(b"\r\n").expect("a chunk ends its line");
            }
        }
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines {
        let (name, value) = cut(line, b":");
        assert!(!name.is_empty() && name.iter().all(|byte| is_of_a_token(*byte)), "no name: {}", line.escape_ascii());
        let good = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        assert!(value.iter().all(good), "no value: {}", line.escape_ascii());
        let name = HeaderName::from_bytes(name).expect("a token is a name");
        fields.append(name, HeaderValue::from_bytes(value.trim_ascii()).expect("it has good bytes only"));
    }
    fields
}

/// What is before the first `border` and what is behind it.
fn cut<'a>(bytes: &'a [u8], border: &[u8]) -> (&'a [u8], &'a [u8]) {
    let at = bytes.windows(border.len()).position(|window| window == border);
    let at = at.unwrap_or_else(|| panic!("no {}: {}", border.escape_ascii(), bytes.escape_ascii()));
    (&bytes[..at], &bytes[at + border.len()..])
}

/// Lines, whose ends nobody could see elsewhere.
fn split(mut lines: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(end) = lines.windows(2).position(|pair| pair == b"\r\n") {
        all.push(&lines[..end]);
        lines = &lines[end + 2..];
    }
    all.push(lines);
    assert!(all.iter().all(|line| !line.contains(&b'\r') && !line.contains(&b'\n')), "a bare CR or LF");
    all
}

/// Panics if a line could end where this reader sees no end.
pub fn has_whole_lines(text: &[u8]) {
    split(text);
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("text")
}

fn is_of_a_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
