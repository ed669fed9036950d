//! Cookies of a request (RFC 6265 section 4.2): finding one by name.
//!
//! Never changes a head.

use http::{HeaderMap, header};

/// The value of the first cookie of this name, over all `Cookie` fields.
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    // Bytes: what another cookie in the field is written in does not matter.
    let fields = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_first_of_a_name_counts_over_all_fields() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; b=2"));
        headers.append(header::COOKIE, HeaderValue::from_static("c=3;b=4"));
        let found = ["a", "b", "c", "d"].map(|name| find(&headers, name));
        assert_eq!(found, [Some(&b"1"[..]), Some(b"2"), Some(b"3"), None]);
    }

    #[test]
    fn another_cookie_may_be_written_in_any_bytes() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_bytes(b"name=caf\xc3\xa9; session=\xe9=1").unwrap());
        assert_eq!(find(&headers, "session"), Some(&b"\xe9=1"[..]));
        assert_eq!(find(&headers, "sess"), None);
    }
}
