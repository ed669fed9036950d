//! The query of a request: pairs in their order, duplicates kept.

use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::fault::duration;

/// Decoded pairs; `a=1&b` gives `("a", "1")` and `("b", "")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &http::Uri) -> Self {
        Self::parse(uri.query().unwrap_or(""))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (plain(k), plain(v))).collect())
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of this name, if it is there and can be read.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// A time such as `250ms`, or this one.
    pub(crate) fn duration_or(&self, name: &str, default: Duration) -> Duration {
        self.get(name).and_then(duration).unwrap_or(default)
    }
}

fn plain(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_order_and_duplicates() {
        let query = Query::parse("a=1&b=x%20y&a=2&c&every=250ms&d=e=f");
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.parsed::<u8>("a"), Some(1));
        assert_eq!(query.get("b"), Some("x y"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(query.get("d"), Some("e=f"));
        assert_eq!(query.pairs().len(), 6);
        assert_eq!(query.duration_or("every", Duration::ZERO), Duration::from_millis(250));
        assert_eq!(query.duration_or("b", Duration::from_secs(1)), Duration::from_secs(1));
    }
}
