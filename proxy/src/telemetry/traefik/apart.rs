//! What is counted of requests that are told apart as Traefik tells them apart: by method, status and protocol, and by
//! the TLS they came over.
//!
//! Owns these cells of a route, a set for each worker, and what a route leaves behind when it goes: Traefik counts by
//! entry point and by service, too, and a counter that falls is taken for one that began anew. There is nothing of all
//! this while `traefik_names` is off.

use std::array;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;

use crate::telemetry::routes::Finished;
use crate::telemetry::shards::Shards;

/// Upper bounds of Traefik's histograms in seconds, unless it is told other ones.
pub(in crate::telemetry) const BUCKETS: [f64; 4] = [0.1, 0.3, 1.2, 5.0];

/// What a request is spoken in, as Traefik has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Whatever is none of the others.
    Http,
    /// A wish for a WebSocket, granted or not.
    WebSocket,
    /// A wish for an event stream.
    Sse,
    /// gRPC.
    Grpc,
    /// gRPC of a browser.
    GrpcWeb,
}

impl Protocol {
    /// What the head of a request is about that wants no WebSocket.
    pub fn of(headers: &HeaderMap) -> Protocol {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if accepts_events(headers) {
            Protocol::Sse
        } else if content_type.starts_with(b"application/grpc-web") {
            Protocol::GrpcWeb
        } else if content_type.starts_with(b"application/grpc") {
            Protocol::Grpc
        } else {
            Protocol::Http
        }
    }

    pub(in crate::telemetry) fn word(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::WebSocket => "websocket",
            Protocol::Sse => "sse",
            Protocol::Grpc => "grpc",
            Protocol::GrpcWeb => "grpc-web",
        }
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|one| one.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Version and cipher suite of a connection, as the access log has them.
pub type Session = (&'static str, &'static str);

/// How a request came and went, as far as Traefik tells.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// What it was spoken in.
    pub protocol: Protocol,
    /// Of its connection; `None` in plain text.
    pub tls: Option<Session>,
    /// How long it took; `None` for an upgraded connection, whose lifetime is not a latency.
    pub latency: Option<Duration>,
}

/// What answers are told apart by: method and status as a number of [`routes`](crate::telemetry::routes), and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::telemetry) struct Answer {
    pub(in crate::telemetry) kind: u16,
    pub(in crate::telemetry) protocol: Protocol,
}

/// Kinds of answers that most routes give; of connections, that most listeners have.
const ANSWERS: usize = 16;
const SESSIONS: usize = 4;

/// What one worker has counted.
#[derive(Debug, Default)]
struct Sheet {
    answers: Few<Answer, Cell, ANSWERS>,
    sessions: Few<Session, AtomicU64, SESSIONS>,
}

#[derive(Debug, Default)]
struct Cell {
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    micros: AtomicU64,
    /// How many fell between each bound and the one before; the last ones are over all bounds.
    lasted: [AtomicU64; BUCKETS.len() + 1],
}

// Relaxed throughout: a figure guards no other memory, and a page of metrics is a moment old anyway.
impl Cell {
    fn count(&self, request: &Finished<'_>, latency: Option<Duration>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(request.bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(request.bytes_out, Ordering::Relaxed);
        let Some(latency) = latency else { return };
        let seconds = latency.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.lasted[bucket].fetch_add(1, Ordering::Relaxed);
        // Half a million years of them have room.
        self.micros.fetch_add(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn sum(&self) -> Sum {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Sum {
            requests: read(&self.requests),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            micros: read(&self.micros),
            lasted: self.lasted.each_ref().map(read),
        }
    }
}

/// Cells found by what they count. Filled from the front and never emptied, so that finding one is free of locks; what
/// finds no room is counted behind one.
#[derive(Debug)]
struct Few<K, V, const ROOM: usize> {
    slots: [OnceLock<Box<(K, V)>>; ROOM],
    others: Mutex<BTreeMap<K, V>>,
}

impl<K, V, const ROOM: usize> Default for Few<K, V, ROOM> {
    fn default() -> Few<K, V, ROOM> {
        Few { slots: array::from_fn(|_| OnceLock::new()), others: Mutex::new(BTreeMap::new()) }
    }
}

impl<K: Copy + Ord, V: Default, const ROOM: usize> Few<K, V, ROOM> {
    fn with(&self, key: K, count: impl FnOnce(&V)) {
        for slot in &self.slots {
            let (known, cell) = &**slot.get_or_init(|| Box::new((key, V::default())));
            if *known == key {
                return count(cell);
            }
        }
        count(self.others.lock().entry(key).or_default());
    }

    fn each(&self, mut see: impl FnMut(K, &V)) {
        self.slots.iter().filter_map(OnceLock::get).for_each(|slot| see(slot.0, &slot.1));
        self.others.lock().iter().for_each(|(key, cell)| see(*key, cell));
    }
}

/// What is counted of one route, as one listener and one service see it.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Apart(Shards<Sheet>);

impl Apart {
    /// Counts a request that is over; `kind` stands for its method and its status.
    pub(in crate::telemetry) fn count(&self, kind: u16, request: &Finished<'_>, manner: &Manner) {
        let sheet = self.0.mine();
        let answer = Answer { kind, protocol: manner.protocol };
        sheet.answers.with(answer, |cell| cell.count(request, manner.latency));
        if let Some(session) = manner.tls {
            sheet.sessions.with(session, |count| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
    }

    fn total(&self) -> Total {
        let mut total = Total::default();
        for sheet in self.0.all() {
            sheet.answers.each(|answer, cell| *total.answers.entry(answer).or_default() += cell.sum());
            let mut count =
                |session, cell: &AtomicU64| *total.sessions.entry(session).or_default() += cell.load(Ordering::Relaxed);
            sheet.sessions.each(&mut count);
        }
        total
    }
}

/// What all workers have counted of one kind of answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::telemetry) struct Sum {
    pub(in crate::telemetry) requests: u64,
    pub(in crate::telemetry) bytes_in: u64,
    pub(in crate::telemetry) bytes_out: u64,
    pub(in crate::telemetry) micros: u64,
    pub(in crate::telemetry) lasted: [u64; BUCKETS.len() + 1],
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.micros += other.micros;
        self.lasted.iter_mut().zip(other.lasted).for_each(|(count, more)| *count += more);
    }
}

/// All that is known of one owner's requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::telemetry) struct Total {
    pub(in crate::telemetry) answers: BTreeMap<Answer, Sum>,
    pub(in crate::telemetry) sessions: BTreeMap<Session, u64>,
}

impl AddAssign<&Total> for Total {
    fn add_assign(&mut self, other: &Total) {
        for (answer, sum) in &other.answers {
            *self.answers.entry(*answer).or_default() += *sum;
        }
        for (session, count) in &other.sessions {
            *self.sessions.entry(*session).or_default() += count;
        }
    }
}

/// Whose requests they are. One request may have three owners.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::telemetry) enum Owner {
    Entrypoint(String),
    Router { router: String, service: String },
    Service(String),
}

impl Owner {
    /// Those of a listener's, a route's and a service's requests. What found no route has no router and no service.
    fn of([listener, route, service]: &[String; 3]) -> impl Iterator<Item = Owner> {
        let router = (!route.is_empty()).then(|| Owner::Router { router: route.clone(), service: service.clone() });
        let service = (!service.is_empty()).then(|| Owner::Service(service.clone()));
        [Owner::Entrypoint(listener.clone())].into_iter().chain(router).chain(service)
    }
}

/// Who has had which requests.
pub(in crate::telemetry) type Books = BTreeMap<Owner, Total>;

/// What routes that are gone have left to the listeners, services and routes of their name that remain.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Left(Books);

/// Entries of owners that are gone are looked for when there are so many for each route that most must be; each look
/// takes as long as there are routes.
const CROWDED: usize = 8;

impl Left {
    /// A route goes; these remain.
    pub(in crate::telemetry) fn take<'a>(
        &mut self,
        (labels, apart): (&[String; 3], &Apart),
        remaining: impl ExactSizeIterator<Item = &'a [String; 3]>,
    ) {
        let total = apart.total();
        Owner::of(labels).for_each(|owner| *self.0.entry(owner).or_default() += &total);
        if self.0.len() > CROWDED * (remaining.len() + 1) {
            let owners: BTreeSet<Owner> = remaining.flat_map(Owner::of).collect();
            self.0.retain(|owner, _| owners.contains(owner));
        }
    }

    /// Everything that the owners of these routes have had. Forgets what has no owner any more.
    pub(in crate::telemetry) fn books<'a>(
        &mut self,
        routes: impl Iterator<Item = (&'a [String; 3], Option<&'a Apart>)>,
    ) -> Books {
        let mut books = Books::new();
        for (labels, apart) in routes {
            let total = apart.map(Apart::total).unwrap_or_default();
            Owner::of(labels).for_each(|owner| *books.entry(owner).or_default() += &total);
        }
        self.0.retain(|owner, _| books.contains_key(owner));
        for (owner, total) in &self.0 {
            *books.entry(owner.clone()).or_default() += total;
        }
        books
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    /// Stands for GET and 200.
    const GET: u16 = 0x4c8;

    fn labels(listener: &str, route: &str, service: &str) -> [String; 3] {
        [listener, route, service].map(str::to_owned)
    }

    fn counted(requests: usize) -> Apart {
        let apart = Apart::default();
        for _ in 0..requests {
            count(
                &apart,
                GET,
                Manner { protocol: Protocol::Http, tls: None, latency: Some(Duration::from_millis(300)) },
            );
        }
        apart
    }

    fn count(apart: &Apart, kind: u16, manner: Manner) {
        let request =
            Finished { method: &Method::GET, status: 200, elapsed: Duration::ZERO, bytes_in: 2, bytes_out: 3 };
        apart.count(kind, &request, &manner);
    }

    fn requests(books: &Books, owner: &Owner) -> u64 {
        books[owner].answers.values().map(|sum| sum.requests).sum()
    }

    #[test]
    fn protocols_are_told_apart_as_traefik_does() {
        for (name, value, protocol) in [
            ("accept", "text/html, text/event-stream", Protocol::Sse),
            ("accept", "text/event-stream;q=0.9", Protocol::Http),
            ("content-type", "application/grpc+proto", Protocol::Grpc),
            ("content-type", "application/grpc-web-text", Protocol::GrpcWeb),
            ("content-type", "application/json", Protocol::Http),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(Protocol::of(&headers), protocol, "{name}: {value}");
        }
    }

    #[test]
    fn more_kinds_of_answers_than_there_is_room_for_are_counted_too() {
        let apart = Apart::default();
        let kinds = 0..u16::try_from(ANSWERS).unwrap() + 5;
        for kind in kinds.clone().chain(kinds.clone()) {
            count(&apart, kind, Manner { protocol: Protocol::Sse, tls: Some(("TLSv1.3", "x")), latency: None });
        }
        let total = apart.total();
        assert_eq!(total.answers.len(), kinds.len());
        assert!(total.answers.values().all(|sum| (sum.requests, sum.bytes_out, sum.lasted) == (2, 6, [0; 5])));
        assert_eq!(total.sessions[&("TLSv1.3", "x")], 2 * u64::try_from(kinds.len()).unwrap());
    }

    #[test]
    fn a_duration_falls_into_the_bucket_that_ends_with_it() {
        let [only] = counted(1).total().answers.into_values().collect::<Vec<_>>()[..] else { panic!("one kind") };
        assert_eq!((only.lasted, only.micros), ([0, 1, 0, 0, 0], 300_000));
    }

    #[test]
    fn a_route_that_goes_takes_nothing_from_those_that_remain() {
        let (stays, goes) = (labels("web", "a", "shop"), labels("web", "b", "shop"));
        let apart = counted(2);
        let mut left = Left::default();
        left.take((&goes, &counted(3)), [&stays].into_iter());
        let books = left.books([(&stays, Some(&apart))].into_iter());
        assert_eq!(requests(&books, &Owner::Entrypoint("web".to_owned())), 5);
        assert_eq!(requests(&books, &Owner::Service("shop".to_owned())), 5);
        let router = |router: &str| Owner::Router { router: router.to_owned(), service: "shop".to_owned() };
        assert_eq!(requests(&books, &router("a")), 2);
        assert!(!books.contains_key(&router("b")));
        assert_eq!(left.0.len(), 2, "the router is forgotten");
    }

    #[test]
    fn what_nobody_owns_any_more_is_forgotten_even_if_nobody_looks() {
        let (stays, mut left) = (labels("web", "a", "shop"), Left::default());
        for route in 0..1_000 {
            let goes = labels("web", &format!("r{route}"), &format!("s{route}"));
            left.take((&goes, &counted(1)), [&stays].into_iter());
        }
        assert!(left.0.len() <= CROWDED * 2, "{}", left.0.len());
        let books = left.books([(&stays, None)].into_iter());
        assert_eq!(requests(&books, &Owner::Entrypoint("web".to_owned())), 1_000);
    }
}
