//! `[middlewares]`.

use indexmap::IndexMap;

use super::Checker;
use crate::Middleware;
use crate::middleware::{Headers, Redirect};
use crate::place::Place;
use crate::problem::Complaint;
use crate::value::HeaderName;

/// Fields about one connection or about framing (RFC 9110 section 7.6.1): the proxy's own, on either side.
const OWN_FIELDS: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const REDIRECTS: &[u16] = &[301, 302, 303, 307, 308];

impl Checker<'_> {
    pub(super) fn middlewares(&mut self) {
        let config = self.config;
        self.names("middlewares", &config.middlewares);
        for (name, middleware) in &config.middlewares {
            let place = Place::root().keys(&["middlewares", name]);
            match middleware {
                Middleware::Headers(headers) => self.headers(&place.key("headers"), headers),
                Middleware::StripPrefix(prefixes) => self.prefixes(&place.key("strip_prefix"), prefixes),
                Middleware::Redirect(redirect) => self.redirect(&place.key("redirect"), redirect),
            }
        }
    }

    fn headers(&mut self, place: &Place, headers: &Headers) {
        self.fields(&place.key("request_set"), &headers.request_set);
        self.fields(&place.key("request_append"), &headers.request_append);
        self.fields(&place.key("response_set"), &headers.response_set);
        self.fields(&place.key("response_append"), &headers.response_append);
        self.removed(&place.key("request_remove"), &headers.request_remove);
        self.removed(&place.key("response_remove"), &headers.response_remove);
        if let Some(index) = headers.request_remove.iter().position(|name| name.as_str() == "host") {
            let complaint = Complaint::new("every request has a `host` (RFC 9110 section 7.2)");
            let hint = "set another one with request_set = { host = \"…\" }";
            self.value(&place.key("request_remove").index(index), complaint.hint(hint));
        }
    }

    fn fields(&mut self, place: &Place, fields: &IndexMap<HeaderName, String>) {
        for (name, value) in fields {
            let place = place.key(name.as_str());
            match own_field(name) {
                Some(complaint) => self.key(&place, complaint),
                None => self.header_value(&place, value),
            }
        }
    }

    fn removed(&mut self, place: &Place, names: &[HeaderName]) {
        for (index, name) in names.iter().enumerate() {
            if let Some(complaint) = own_field(name) {
                self.value(&place.index(index), complaint);
            }
        }
    }

    fn prefixes(&mut self, place: &Place, prefixes: &[String]) {
        if prefixes.is_empty() {
            self.value(place, Complaint::new("no prefix to strip").hint("write strip_prefix = [\"/api\"]"));
        }
        for (index, prefix) in prefixes.iter().enumerate() {
            self.path(&place.index(index), prefix);
        }
    }

    fn redirect(&mut self, place: &Place, redirect: &Redirect) {
        if !REDIRECTS.contains(&redirect.status) {
            let complaint = Complaint::new(format!("{} is not a redirect", redirect.status));
            let hint = "301 or 308 for good, 302 or 307 for now, 303 to see another page; 307 and 308 keep the method";
            self.value(&place.key("status"), complaint.hint(hint));
        }
        let to = place.key("to");
        self.header_value(&to, &redirect.to);
        for group in groups(&redirect.to) {
            if let Some(complaint) = group_complaint(redirect, group) {
                self.value(&to, complaint);
            }
        }
    }
}

pub(super) fn own_field(name: &HeaderName) -> Option<Complaint> {
    let own = OWN_FIELDS.contains(&name.as_str());
    own.then(|| {
        Complaint::new(format!("`{name}` belongs to one connection, not to the message"))
            .hint("Waypost sets and removes it itself (RFC 9110 section 7.6.1); leave it out")
    })
}

fn group_complaint(redirect: &Redirect, group: &str) -> Option<Complaint> {
    let regex = redirect.regex.get();
    let count = regex.captures_len();
    let known = match group.parse::<usize>() {
        Ok(index) => index < count,
        Err(_) => regex.capture_names().flatten().any(|name| name == group),
    };
    if known {
        return None;
    }
    let complaint = Complaint::new(format!("the regex has no group `{group}`"));
    let digits: String = group.chars().take_while(char::is_ascii_digit).collect();
    let hint = match (digits.len(), count - 1) {
        // `$1abc` is the group `1abc`, for a name may begin with a digit.
        (1.., _) if digits.len() < group.len() => format!("write \"${{{digits}}}{}\"", &group[digits.len()..]),
        (_, 0) => "put the part to keep in parentheses: \"^https://www\\\\.(.*)\"".to_owned(),
        (_, 1) => "it has one: $1".to_owned(),
        (_, last) => format!("it has $1 to ${last}"),
    };
    Some(complaint.hint(hint))
}

/// The groups a target names, as the `regex` crate reads it: `$name`, `${name}`; `$$` is a dollar.
fn groups(target: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = target;
    while let Some(dollar) = rest.find('$') {
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            found.push(name);
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.extend((end > 0).then_some(&rest[..end]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_as_the_regex_crate_does() {
        assert_eq!(groups("https://$1/${name}$$2/$3x-$_y $"), ["1", "name", "3x", "_y"]);
        assert!(groups("https://shop.example").is_empty());
    }

    #[test]
    fn a_digit_followed_by_letters_is_explained() {
        let redirect = Redirect { regex: "(.*)".parse().unwrap(), to: String::new(), status: 308 };
        assert_eq!(group_complaint(&redirect, "1abc").unwrap().hint.unwrap(), "write \"${1}abc\"");
        assert_eq!(group_complaint(&redirect, "1"), None);
        assert_eq!(group_complaint(&redirect, "0"), None);
    }
}
