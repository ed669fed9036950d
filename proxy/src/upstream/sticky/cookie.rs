//! Pins in a sealed cookie: the client keeps them, so that any instance with the same secret honours them.
//!
//! The value is base64url, unpadded, of `version (1) | nonce (12) | sealed | tag (16)`; sealed is
//! `issued (4) | renewed (4) | endpoint name`, times in unix seconds, big endian. AES-256-GCM-SIV, because nonces are
//! random and a secret may live for years; the service's and the cookie's name are authenticated with it, so a value
//! is worth nothing elsewhere. Whatever does not open counts as absent.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use waypost_config::service::{SameSite, StickyCookie};

const VERSION: u8 = 1;
const TAG_LEN: usize = 16;
const TIMES_LEN: usize = 8;
const OVERHEAD: usize = 1 + NONCE_LEN + TIMES_LEN + TAG_LEN;

/// The longest sealed value looked at, before base64: names up to 475 bytes.
const LONGEST_VALUE: usize = 512;

/// How many cookies of our name a request may bring; a browser brings one, or two with different paths.
const MOST_CANDIDATES: usize = 8;

/// A pin is renewed when this part of its idle time has gone by: rare on a busy client, in time for a slow one.
const RENEWAL_PART: u32 = 4;

/// The pins of one service with `sticky = { cookie = … }`.
pub struct CookiePins {
    /// The first seals, all open.
    keys: Box<[LessSafeKey]>,
    /// Authenticated with each value.
    binding: Box<[u8]>,
    name: Box<str>,
    /// `; Path=/; SameSite=Lax; HttpOnly`
    attributes: Box<str>,
    max_idle: Duration,
    max_age: Duration,
}

/// A client's valid pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The name of the endpoint.
    pub endpoint: String,
    /// When the client first came to it, in unix seconds.
    pub issued: u64,
    /// When the cookie was last set, in unix seconds.
    pub renewed: u64,
    /// Whether the first secret sealed it: a value of an older one is renewed, so that the old secret can go.
    current: bool,
}

/// How the client is connected, which decides whether its cookie is `Secure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientConnection {
    /// Over TLS, to us or to a trusted proxy before us.
    Tls,
    /// In plain text.
    Plain,
}

/// Seals the cookies of services without secrets; lives as long as the process.
#[derive(Clone)]
pub struct ProcessKey([u8; 32]);

impl ProcessKey {
    /// A new random key.
    pub fn generate() -> ProcessKey {
        let mut key = [0; 32];
        fill_random(&mut key);
        ProcessKey(key)
    }
}

impl fmt::Debug for ProcessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ProcessKey(***)")
    }
}

impl fmt::Debug for CookiePins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CookiePins").field("name", &self.name).finish_non_exhaustive()
    }
}

impl CookiePins {
    /// Pins of this service; without secrets in its config `process_key` seals.
    pub fn new(service: &str, config: &StickyCookie, process_key: &ProcessKey) -> CookiePins {
        let mut keys: Vec<_> = config.secrets.iter().map(|secret| derive(secret.reveal().as_bytes())).collect();
        if keys.is_empty() {
            keys.push(derive(&process_key.0));
        }
        CookiePins {
            keys: keys.into(),
            binding: [&[VERSION], service.as_bytes(), &[0], config.cookie.as_bytes()].concat().into(),
            name: config.cookie.as_str().into(),
            attributes: attributes(config).into(),
            max_idle: *config.max_idle,
            max_age: *config.max_age,
        }
    }

    /// The first valid pin among the request's cookies; forged, foreign and expired ones count as absent.
    pub fn open(&self, headers: &HeaderMap, now: SystemTime) -> Option<Pin> {
        let now = unix_seconds(now);
        let fields = headers.get_all(COOKIE).into_iter();
        let candidates = fields.flat_map(|field| segments(field.as_bytes())).filter_map(|segment| self.value(segment));
        candidates.take(MOST_CANDIDATES).filter_map(|value| self.unseal(value)).find(|pin| self.is_alive(pin, now))
    }

    /// Takes the cookie out of the request, every occurrence; other cookies stay byte for byte.
    pub fn strip(&self, headers: &mut HeaderMap) {
        let ours = |field: &HeaderValue| segments(field.as_bytes()).any(|segment| self.value(segment).is_some());
        if !headers.get_all(COOKIE).into_iter().any(ours) {
            return;
        }
        let kept: Vec<_> = headers.get_all(COOKIE).into_iter().filter_map(|field| self.without_ours(field)).collect();
        let mut kept = kept.into_iter();
        match kept.next() {
            None => drop(headers.remove(COOKIE)),
            // `insert` replaces all fields of the name in the place of the first.
            Some(first) => drop(headers.insert(COOKIE, first)),
        }
        for field in kept {
            headers.append(COOKIE, field);
        }
    }

    /// Whether the client should be sent the cookie again although its endpoint stays the same.
    pub fn needs_renewal(&self, pin: &Pin, now: SystemTime) -> bool {
        let ends_by_age = pin.issued.saturating_add(self.max_age.as_secs());
        let ends_by_idling = pin.renewed.saturating_add(self.max_idle.as_secs());
        let due = unix_seconds(now).saturating_sub(pin.renewed) > (self.max_idle / RENEWAL_PART).as_secs();
        !pin.current || due && ends_by_idling < ends_by_age
    }

    /// The `Set-Cookie` value that pins the client to `endpoint`. A `pin` on the same endpoint keeps its age.
    pub fn set_cookie(
        &self,
        pin: Option<&Pin>,
        endpoint: &str,
        connection: ClientConnection,
        now: SystemTime,
    ) -> HeaderValue {
        let now = unix_seconds(now);
        let issued = pin.filter(|pin| pin.endpoint == endpoint).map_or(now, |pin| pin.issued);
        let age_left = issued.saturating_add(self.max_age.as_secs()).saturating_sub(now);
        let max_age = self.max_idle.as_secs().min(age_left);
        let value = URL_SAFE_NO_PAD.encode(self.seal(endpoint, issued, now));
        let secure = if connection == ClientConnection::Tls { "; Secure" } else { "" };
        let text = format!("{}={value}; Max-Age={max_age}{}{secure}", self.name, self.attributes);
        HeaderValue::try_from(text).expect("the name is a token, the value base64, the attributes printable")
    }

    /// The value of one `name=value` if the name is ours.
    fn value<'a>(&self, segment: &'a [u8]) -> Option<&'a [u8]> {
        segment.trim_ascii().strip_prefix(self.name.as_bytes())?.strip_prefix(b"=")
    }

    /// The field without our cookie; `None` if nothing remains.
    fn without_ours(&self, field: &HeaderValue) -> Option<HeaderValue> {
        let others: Vec<_> = segments(field.as_bytes()).filter(|segment| self.value(segment).is_none()).collect();
        let rest = others.join(&b';');
        if rest.trim_ascii().is_empty() {
            return None;
        }
        if rest.len() == field.len() {
            return Some(field.clone());
        }
        let mut rest = HeaderValue::from_bytes(rest.trim_ascii_start()).expect("a part of a valid field is valid");
        rest.set_sensitive(field.is_sensitive());
        Some(rest)
    }

    fn is_alive(&self, pin: &Pin, now: u64) -> bool {
        // A clock behind that of the instance which sealed makes a pin younger, not invalid.
        let younger = |since: u64, limit: Duration| now.saturating_sub(since) <= limit.as_secs();
        younger(pin.renewed, self.max_idle) && younger(pin.issued, self.max_age)
    }

    fn seal(&self, endpoint: &str, issued: u64, renewed: u64) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        fill_random(&mut nonce);
        let mut sealed = Vec::with_capacity(OVERHEAD + endpoint.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&four_bytes(issued));
        sealed.extend_from_slice(&four_bytes(renewed));
        sealed.extend_from_slice(endpoint.as_bytes());
        let tag = self.keys[0]
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&self.binding),
                &mut sealed[1 + NONCE_LEN..],
            )
            .expect("a payload of a few hundred bytes can be sealed");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    fn unseal(&self, value: &[u8]) -> Option<Pin> {
        let mut decoded = [0; LONGEST_VALUE];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut decoded).ok()?;
        let (version, rest) = decoded[..length].split_first()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (sealed, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        if *version != VERSION || sealed.len() < TIMES_LEN {
            return None;
        }
        let mut opened = [0; LONGEST_VALUE];
        let opened = &mut opened[..sealed.len()];
        let opens = |key: &LessSafeKey| {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            key.open_separate_gather(nonce, Aad::from(&self.binding), sealed, tag, opened).is_ok()
        };
        let key = self.keys.iter().position(opens)?;
        read(opened, key == 0)
    }
}

fn read(payload: &[u8], current: bool) -> Option<Pin> {
    let (issued, rest) = payload.split_first_chunk()?;
    let (renewed, name) = rest.split_first_chunk()?;
    let endpoint = str::from_utf8(name).ok()?.to_owned();
    let seconds = |bytes: &[u8; 4]| u64::from(u32::from_be_bytes(*bytes));
    Some(Pin { endpoint, issued: seconds(issued), renewed: seconds(renewed), current })
}

fn segments(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';')
}

fn attributes(config: &StickyCookie) -> String {
    let same_site = match config.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    };
    let domain = config.domain.iter().map(|domain| format!("; Domain={}", printable(domain)));
    let domain: String = domain.collect();
    format!("; Path={}{domain}; SameSite={same_site}; HttpOnly", printable(&config.path))
}

/// What RFC 6265 section 4.1.1 allows in an attribute's value.
fn printable(text: &str) -> String {
    text.chars().filter(|c| (' '..='~').contains(c) && *c != ';').collect()
}

fn derive(secret: &[u8]) -> LessSafeKey {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"waypost sticky cookie").extract(secret);
    let key = prk.expand(&[b"AES-256-GCM-SIV"], &AES_256_GCM_SIV).expect("a key is shorter than 255 blocks");
    LessSafeKey::new(UnboundKey::from(key))
}

fn fill_random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the system has random bytes");
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Unix seconds fit until 2106.
fn four_bytes(seconds: u64) -> [u8; 4] {
    u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waypost_config::value::Secret;

    use super::*;

    const NOON: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn config(secrets: &[&str]) -> StickyCookie {
        StickyCookie {
            cookie: "wp".to_owned(),
            secrets: secrets.iter().map(|secret| Secret::from(*secret)).collect(),
            max_idle: waypost_config::value::Duration::seconds(3600),
            max_age: waypost_config::value::Duration::seconds(7200),
            same_site: SameSite::Lax,
            path: "/".to_owned(),
            domain: None,
        }
    }

    fn pins(secrets: &[&str]) -> CookiePins {
        CookiePins::new("shop", &config(secrets), &ProcessKey([7; 32]))
    }

    /// `wp=value`, as the client would send it back.
    fn issued(pins: &CookiePins, pin: Option<&Pin>, now: u64) -> String {
        let cookie = pins.set_cookie(pin, "web-1", ClientConnection::Plain, at(now));
        cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    fn request<F: AsRef<[u8]>>(fields: &[F]) -> HeaderMap {
        fields.iter().map(|field| (COOKIE, HeaderValue::from_bytes(field.as_ref()).unwrap())).collect()
    }

    fn opened(pins: &CookiePins, cookie: &str, now: u64) -> Option<Pin> {
        pins.open(&request(&[cookie]), at(now))
    }

    #[test]
    fn pin_is_found_wherever_it_stands() {
        let pins = pins(&["s"]);
        let ours = issued(&pins, None, NOON);
        let found = |fields: &[String]| pins.open(&request(fields), at(NOON)).map(|pin| pin.endpoint);
        let cases = [
            vec![ours.clone()],
            vec![format!("a=1; {ours}; b=2")],
            vec![format!("a=1;{ours};b=2")],
            vec!["a=1".to_owned(), format!("  {ours}  ")],
            vec!["wp=garbage".to_owned(), format!("wp=; wp; {ours}")],
            vec![format!("xwp=1; wpx=2; {ours}; wp=AAAA")],
        ];
        for case in cases {
            assert_eq!(found(&case).as_deref(), Some("web-1"), "{case:?}");
        }
    }

    #[test]
    fn garbage_counts_as_absent() {
        let pins = pins(&["s"]);
        let long = format!("wp={}", "A".repeat(4000));
        let other_version = issued(&pins, None, NOON).replacen("wp=A", "wp=B", 1);
        for cookie in ["", "wp", "wp=", "wp=A", "wp=%00", "wp=AQ==", &long, &other_version] {
            assert_eq!(opened(&pins, cookie, NOON), None, "{cookie}");
        }
    }

    #[test]
    fn value_is_worth_nothing_elsewhere() {
        let ours = issued(&pins(&["s"]), None, NOON);
        let other_service = CookiePins::new("blog", &config(&["s"]), &ProcessKey([7; 32]));
        let other_name =
            CookiePins::new("shop", &StickyCookie { cookie: "pw".to_owned(), ..config(&["s"]) }, &ProcessKey([7; 32]));
        assert_eq!(opened(&other_service, &ours, NOON), None);
        assert_eq!(opened(&other_name, &ours.replacen("wp=", "pw=", 1), NOON), None);
        assert_eq!(opened(&pins(&["t"]), &ours, NOON), None);
        assert_eq!(opened(&pins(&[]), &ours, NOON), None);
    }

    #[test]
    fn process_key_serves_while_no_secret_is_configured() {
        let config = config(&[]);
        let key = ProcessKey::generate();
        let ours = issued(&CookiePins::new("shop", &config, &key), None, NOON);
        assert!(opened(&CookiePins::new("shop", &config, &key), &ours, NOON).is_some());
        assert_eq!(opened(&CookiePins::new("shop", &config, &ProcessKey::generate()), &ours, NOON), None);
    }

    #[test]
    fn old_secret_opens_and_is_renewed_with_the_first() {
        let old = issued(&pins(&["old"]), None, NOON);
        let rotated = pins(&["new", "old"]);
        let pin = opened(&rotated, &old, NOON).unwrap();
        assert!(rotated.needs_renewal(&pin, at(NOON)));
        let new = issued(&rotated, Some(&pin), NOON);
        let pin = opened(&pins(&["new"]), &new, NOON).unwrap();
        assert!(!rotated.needs_renewal(&pin, at(NOON)));
    }

    #[test]
    fn pin_ends_by_idling_and_by_age() {
        let pins = pins(&["s"]);
        let alive = |cookie: &str, now: u64| opened(&pins, cookie, now).is_some();
        let first = issued(&pins, None, NOON);
        assert!(alive(&first, NOON + 3600) && !alive(&first, NOON + 3601));
        assert!(alive(&first, NOON - 100), "a clock that is behind");
        let pin = opened(&pins, &first, NOON + 3600);
        let renewed = issued(&pins, pin.as_ref(), NOON + 3600);
        assert!(alive(&renewed, NOON + 7200) && !alive(&renewed, NOON + 7201));
    }

    #[test]
    fn no_renewal_and_no_replay_outlives_the_age() {
        let pins = pins(&["s"]);
        let mut cookies = vec![issued(&pins, None, NOON)];
        for now in (NOON..=NOON + 7200).step_by(600) {
            let pin = opened(&pins, cookies.last().unwrap(), now);
            assert!(pin.is_some(), "renewed in time, at {now}");
            cookies.push(issued(&pins, pin.as_ref(), now));
        }
        for cookie in cookies {
            assert_eq!(opened(&pins, &cookie, NOON + 7201), None, "{cookie}");
        }
    }

    #[test]
    fn no_other_character_opens_anywhere() {
        let pins = pins(&["s", "t"]);
        let cookie = issued(&pins, None, NOON);
        for place in 3..cookie.len() {
            for other in (' '..='~').filter(|other| !cookie[place..].starts_with(*other)) {
                let forged = format!("{}{other}{}", &cookie[..place], &cookie[place + 1..]);
                assert_eq!(opened(&pins, &forged, NOON), None, "{other:?} at {place}");
            }
        }
    }

    #[test]
    fn no_part_opens_and_no_patchwork() {
        let pins = pins(&["s"]);
        let (one, other) = (issued(&pins, None, NOON), issued(&pins, None, NOON + 1));
        for place in 3..one.len() {
            let (begin, end) = one.split_at(place);
            assert_eq!(opened(&pins, begin, NOON + 1), None, "the first {place}");
            if place > 3 {
                assert_eq!(opened(&pins, &format!("wp={end}"), NOON + 1), None, "all but the first {place}");
            }
            let patched = format!("{begin}{}", &other[place..]);
            if patched != one && patched != other {
                assert_eq!(opened(&pins, &patched, NOON + 1), None, "two cookies, cut at {place}");
            }
        }
        for more in ["A", "AA", "AAAA", "=", "==", "."] {
            assert_eq!(opened(&pins, &format!("{one}{more}"), NOON), None, "{more:?} at the end");
        }
    }

    #[test]
    fn renewal_is_due_after_a_quarter_of_the_idle_time() {
        let pins = pins(&["s"]);
        let due = |pin: &Pin, now: u64| pins.needs_renewal(pin, at(now));
        let pin = opened(&pins, &issued(&pins, None, NOON), NOON).unwrap();
        assert!(!due(&pin, NOON + 900) && due(&pin, NOON + 901));
        // Its age ends it before idling could.
        let late = opened(&pins, &issued(&pins, Some(&pin), NOON + 3600), NOON + 3600).unwrap();
        assert!(!due(&late, NOON + 7000));
    }

    #[test]
    fn another_endpoint_begins_a_new_age() {
        let pins = pins(&["s"]);
        let pin = opened(&pins, &issued(&pins, None, NOON), NOON).unwrap();
        let moved = pins.set_cookie(Some(&pin), "web-2", ClientConnection::Plain, at(NOON + 600));
        let moved = pins.open(&request(&[moved]), at(NOON + 600)).unwrap();
        assert_eq!((moved.endpoint.as_str(), moved.issued), ("web-2", NOON + 600));
        let same = opened(&pins, &issued(&pins, Some(&pin), NOON + 600), NOON + 600).unwrap();
        assert_eq!((same.issued, same.renewed), (NOON, NOON + 600));
    }

    #[test]
    fn set_cookie_has_the_attributes_of_the_config() {
        let attributes = |config: &StickyCookie, pin: Option<&Pin>, connection| {
            let pins = CookiePins::new("shop", config, &ProcessKey([7; 32]));
            let cookie = pins.set_cookie(pin, "web-1", connection, at(NOON));
            cookie.to_str().unwrap().split_once("; ").unwrap().1.to_owned()
        };
        let plain = config(&["s"]);
        let aged = Pin { endpoint: "web-1".to_owned(), issued: NOON - 7000, renewed: NOON - 1000, current: true };
        let special = StickyCookie {
            same_site: SameSite::None,
            path: "/app;\u{7}é".to_owned(),
            domain: Some("shop.example".to_owned()),
            ..config(&["s"])
        };
        let cases = [
            (&plain, None, ClientConnection::Plain, "Max-Age=3600; Path=/; SameSite=Lax; HttpOnly"),
            (&plain, None, ClientConnection::Tls, "Max-Age=3600; Path=/; SameSite=Lax; HttpOnly; Secure"),
            (&plain, Some(&aged), ClientConnection::Plain, "Max-Age=200; Path=/; SameSite=Lax; HttpOnly"),
            (
                &special,
                None,
                ClientConnection::Tls,
                "Max-Age=3600; Path=/app; Domain=shop.example; SameSite=None; HttpOnly; Secure",
            ),
        ];
        for (config, pin, connection, expected) in cases {
            assert_eq!(attributes(config, pin, connection), expected);
        }
    }

    #[track_caller]
    fn check_strip(before: &[&str], after: &[&str]) {
        let mut headers = request(before);
        headers.insert("x-other", HeaderValue::from_static("wp=1"));
        pins(&["s"]).strip(&mut headers);
        let left: Vec<_> = headers.get_all(COOKIE).iter().map(|field| field.to_str().unwrap()).collect();
        assert_eq!(left, after, "{before:?}");
        assert_eq!(headers["x-other"], "wp=1");
    }

    #[test]
    fn strip_leaves_other_cookies_byte_for_byte() {
        check_strip(&[], &[]);
        check_strip(&["wp=1"], &[]);
        check_strip(&["wp=1;"], &[]);
        check_strip(&["a=1;  b = \"2\" ;c"], &["a=1;  b = \"2\" ;c"]);
        check_strip(&["wp=1; a=1;  b=2"], &["a=1;  b=2"]);
        check_strip(&["a=1; wp=1;  b=2"], &["a=1;  b=2"]);
        check_strip(&["a=1; wp=1"], &["a=1"]);
        check_strip(&["wp=1; a=1; wp=2"], &["a=1"]);
        check_strip(&["xwp=1; wpx=1; WP=1; a=wp=1"], &["xwp=1; wpx=1; WP=1; a=wp=1"]);
        check_strip(&["a=1", "wp=1", "b=2; wp=1", "c=3"], &["a=1", "b=2", "c=3"]);
        check_strip(&["wp=1", "wp=2"], &[]);
    }

    proptest! {
        #[test]
        fn forged_bits_never_open(byte in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let pins = pins(&["s", "t"]);
            let cookie = issued(&pins, None, NOON);
            let mut sealed = URL_SAFE_NO_PAD.decode(&cookie[3..]).unwrap();
            let byte = byte.index(sealed.len());
            sealed[byte] ^= 1 << bit;
            let forged = format!("wp={}", URL_SAFE_NO_PAD.encode(sealed));
            prop_assert_eq!(opened(&pins, &forged, NOON), None);
        }

        #[test]
        fn any_bytes_are_survived(field in prop::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80..=0xff_u8], 0..600)) {
            let field = [b"wp=".as_slice(), &field].concat();
            prop_assert_eq!(pins(&["s"]).open(&request(&[&field]), at(NOON)), None);
            pins(&["s"]).strip(&mut request(&[&field]));
        }

        #[test]
        fn what_was_sealed_opens(name in "[a-z0-9.é-]{0,200}", issued in 0..=u64::from(u32::MAX)) {
            let pins = pins(&["s"]);
            let cookie = pins.set_cookie(None, &name, ClientConnection::Plain, at(issued));
            let pin = pins.open(&request(&[cookie]), at(issued)).unwrap();
            prop_assert_eq!(pin, Pin { endpoint: name, issued, renewed: issued, current: true });
        }
    }
}
