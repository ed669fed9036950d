//! Lines of bytes as `Cookie` fields: nobody can make a sticky cookie but we, ours is found and taken out, and the
//! others stay byte for byte.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use waypost::cookies;
use waypost::upstream::sticky::{ClientConnection, CookiePins, ProcessKey};
use waypost_config::service::{SameSite, StickyCookie};
use waypost_config::value;

/// The key is random: what opens was sealed here, not guessed.
static PINS: LazyLock<CookiePins> = LazyLock::new(|| {
    let config = StickyCookie {
        cookie: NAME.to_owned(),
        secrets: Vec::new(),
        max_idle: value::Duration::seconds(3600),
        max_age: value::Duration::seconds(7200),
        same_site: SameSite::Lax,
        path: "/".to_owned(),
        domain: None,
    };
    CookiePins::new("shop", &config, &ProcessKey::generate())
});

const NAME: &str = "wp";

/// How many cookies of our name are looked at.
const CANDIDATES: usize = 8;

/// Reads `data` as the cookies of a request, a field a line.
pub fn run(data: &[u8]) {
    let fields = data.split(|byte| *byte == b'\n').filter_map(|field| HeaderValue::from_bytes(field).ok());
    let headers: HeaderMap = fields.take(16).map(|field| (COOKIE, field)).collect();
    assert_eq!(PINS.open(&headers, noon()), None, "forged");
    is_stripped(&headers);
    is_found(&headers);
    let ours = sealed(data);
    opens_among(&headers, &ours, &name_in(data));
    forgery_opens_not(data, &ours);
}

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

/// An endpoint's name made of the input.
fn name_in(data: &[u8]) -> String {
    String::from_utf8_lossy(data).chars().take(100).collect()
}

/// `wp=value` as the client would send it back.
fn sealed(data: &[u8]) -> String {
    let cookie = PINS.set_cookie(None, &name_in(data), ClientConnection::Plain, noon());
    let text = cookie.to_str().expect("a cookie of ours is ASCII");
    text.split(';').next().unwrap_or_default().to_owned()
}

fn opens_among(others: &HeaderMap, ours: &str, name: &str) {
    let mut headers = others.clone();
    let amid = format!("a=1;\t{ours} ; b=2");
    headers.append(COOKIE, HeaderValue::from_str(&amid).expect("it was in a field"));
    let before = candidates(others);
    let pin = PINS.open(&headers, noon());
    let seen = pin.as_ref().map(|pin| pin.endpoint.as_str());
    assert_eq!(seen, (before < CANDIDATES).then_some(name), "behind {before} others of its name");
}

/// One other character anywhere.
fn forgery_opens_not(data: &[u8], ours: &str) {
    let number = data.iter().fold(7_usize, |number, byte| number.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let (name, value) = ours.split_once('=').expect("name and value");
    let mut value = value.as_bytes().to_vec();
    let place = number % value.len();
    value[place] = *b"AB_-z9".iter().find(|other| **other > value[place]).unwrap_or(&b'.');
    let forged = [name.as_bytes(), b"=", &value].concat();
    let headers: HeaderMap = [(COOKIE, HeaderValue::from_bytes(&forged).expect("ASCII"))].into_iter().collect();
    assert_eq!(PINS.open(&headers, noon()), None, "{}", forged.escape_ascii());
}

fn is_stripped(headers: &HeaderMap) {
    let mut after = headers.clone();
    PINS.strip(&mut after);
    assert_eq!(candidates(&after), 0, "ours is still there");
    let others = |headers: &HeaderMap| -> Vec<Vec<u8>> {
        let all = pieces(headers).filter(|piece| !piece.is_empty() && !is_ours(piece));
        all.map(<[u8]>::to_vec).collect()
    };
    assert_eq!(others(headers), others(&after), "the others have changed");
    if candidates(headers) == 0 {
        assert_eq!(*headers, after, "there was nothing to take out");
    }
}

fn is_found(headers: &HeaderMap) {
    for name in [NAME, "a", "session"] {
        let start = format!("{name}=");
        let expected = pieces(headers).find_map(|piece| piece.strip_prefix(start.as_bytes()));
        assert_eq!(cookies::find(headers, name), expected, "{name} in {headers:?}");
    }
}

fn pieces(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(COOKIE).into_iter();
    fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii))
}

fn is_ours(piece: &[u8]) -> bool {
    piece.starts_with(b"wp=")
}

fn candidates(headers: &HeaderMap) -> usize {
    pieces(headers).filter(|piece| is_ours(piece)).count()
}
