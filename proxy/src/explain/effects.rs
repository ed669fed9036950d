//! What a middleware has done to a head, in words: found by comparing, so that each kind tells itself.

use http::{HeaderMap, HeaderName, HeaderValue, Response, request, response};
use waypost_config::Middleware;

/// What is different after a middleware has seen the request, one phrase each.
pub(super) fn on_request(before: &request::Parts, after: &request::Parts) -> Vec<String> {
    let mut effects = Vec::new();
    if before.uri != after.uri {
        effects.push(format!("the target `{}` becomes `{}`", before.uri, after.uri));
    }
    effects.extend(on_fields(&before.headers, &after.headers));
    effects
}

/// A response with every field that one of these middlewares would remove, for otherwise that could not be seen.
pub(super) fn touchstone<'a>(middlewares: impl Iterator<Item = &'a Middleware>) -> response::Parts {
    let mut head = Response::new(()).into_parts().0;
    for middleware in middlewares {
        let Middleware::Headers(headers) = middleware else { continue };
        let names =
            headers.response_remove.iter().filter_map(|name| HeaderName::from_bytes(name.as_str().as_bytes()).ok());
        names.for_each(|name| drop(head.headers.insert(name, HeaderValue::from_static("any"))));
    }
    head
}

/// What a middleware has made of a response, one phrase each.
pub(super) fn on_response(before: &response::Parts, after: &response::Parts) -> Vec<String> {
    on_fields(&before.headers, &after.headers)
}

fn on_fields(before: &HeaderMap, after: &HeaderMap) -> Vec<String> {
    let lines = |headers: &HeaderMap, name: &HeaderName| -> Vec<HeaderValue> {
        headers.get_all(name).iter().cloned().collect()
    };
    let removed = before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("removes {name}"));
    let changed = after.keys().filter(|name| lines(before, name) != lines(after, name));
    let set = changed.map(|name| {
        let values: Vec<_> =
            after.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        format!("makes {name}: {}", values.join(", "))
    });
    removed.chain(set).collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn each_difference_is_a_phrase() {
        let request = |target: &str, fields: &[(&'static str, &'static str)]| {
            let mut head = Request::get(target).body(()).unwrap().into_parts().0;
            for (name, value) in fields {
                head.headers.append(*name, HeaderValue::from_static(value));
            }
            head
        };
        let before = request("/api/x?y", &[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = request("/x?y", &[("a", "1"), ("b", "1"), ("b", "2"), ("d", "1")]);
        let expected = ["the target `/api/x?y` becomes `/x?y`", "removes c", "makes b: 1, 2", "makes d: 1"];
        assert_eq!(on_request(&before, &after), expected);
        assert!(on_request(&before, &before).is_empty());
    }
}
