//! Cookies of a request (RFC 6265 section 4.2): finding one by name.
//!
//! Never changes a head.

use http::{HeaderMap, header};

/// The value of the first cookie of this name, over all `Cookie` fields.
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(header::COOKIE).into_iter().filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
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
        assert_eq!(found, [Some("1"), Some("2"), Some("3"), None]);
    }
}
