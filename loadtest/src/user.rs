//! A virtual user: its cookies, and which endpoint it has met.
//!
//! One target, so every cookie is sent with every request: `Path` and `Domain` are not looked at. Never sends
//! anything itself.

use cookie::{Cookie, time::OffsetDateTime};
use http::{HeaderMap, HeaderValue, header};

/// Somebody with a browser.
#[derive(Debug, Default)]
pub(crate) struct User {
    jar: Vec<(String, String)>,
    header: Option<HeaderValue>,
    /// The endpoint that answered first, as an index into the recorder's endpoints.
    first: Option<usize>,
    last: Option<usize>,
}

/// How an answer stands to the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meeting {
    /// Answered by the endpoint that answered this user first.
    pub(crate) faithful: bool,
    /// Answered by another endpoint than the time before.
    pub(crate) moved: bool,
}

impl User {
    /// The `Cookie` header of the next request.
    pub(crate) fn cookie(&self) -> Option<&HeaderValue> {
        self.header.as_ref()
    }

    /// Takes the cookies of a response.
    pub(crate) fn absorb(&mut self, headers: &HeaderMap) {
        let mut fresh = headers.get_all(header::SET_COOKIE).iter().peekable();
        if fresh.peek().is_none() {
            return;
        }
        for cookie in fresh.filter_map(|value| Cookie::parse(value.to_str().ok()?).ok()) {
            self.jar.retain(|(name, _)| name != cookie.name());
            if !is_over(&cookie) {
                self.jar.push((cookie.name().to_owned(), cookie.value().to_owned()));
            }
        }
        self.header = join(&self.jar);
    }

    /// Notes which endpoint answered.
    pub(crate) fn meet(&mut self, endpoint: usize) -> Meeting {
        let first = *self.first.get_or_insert(endpoint);
        let before = self.last.replace(endpoint);
        Meeting { faithful: first == endpoint, moved: before.is_some_and(|before| before != endpoint) }
    }
}

fn is_over(cookie: &Cookie<'_>) -> bool {
    match cookie.max_age() {
        // Max-Age wins over Expires (RFC 6265, section 5.3).
        Some(age) => !age.is_positive(),
        None => cookie.expires_datetime().is_some_and(|expires| expires <= OffsetDateTime::now_utc()),
    }
}

fn join(jar: &[(String, String)]) -> Option<HeaderValue> {
    let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { None } else { HeaderValue::from_str(&pairs.join("; ")).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(user: &mut User, set_cookie: &[&str], sent: Option<&str>) {
        let mut headers = HeaderMap::new();
        for line in set_cookie {
            headers.append(header::SET_COOKIE, line.parse().unwrap());
        }
        user.absorb(&headers);
        assert_eq!(user.cookie().map(|value| value.to_str().unwrap()), sent);
    }

    #[test]
    fn cookies_are_kept_replaced_and_deleted() {
        let mut user = User::default();
        check(&mut user, &[], None);
        check(&mut user, &["lb=one; Path=/; HttpOnly", "cart=7"], Some("lb=one; cart=7"));
        check(&mut user, &["lb=two; Max-Age=60"], Some("cart=7; lb=two"));
        check(&mut user, &[], Some("cart=7; lb=two"));
        check(&mut user, &["cart=; Max-Age=0"], Some("lb=two"));
        check(&mut user, &["lb=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], None);
    }

    #[test]
    fn a_user_that_comes_back_is_faithful_but_has_moved() {
        let mut user = User::default();
        assert_eq!(user.meet(1), Meeting { faithful: true, moved: false });
        assert_eq!(user.meet(1), Meeting { faithful: true, moved: false });
        assert_eq!(user.meet(2), Meeting { faithful: false, moved: true });
        assert_eq!(user.meet(2), Meeting { faithful: false, moved: false });
        assert_eq!(user.meet(1), Meeting { faithful: true, moved: true });
    }
}
