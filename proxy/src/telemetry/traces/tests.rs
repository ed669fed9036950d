//! Whose trace a request is in, what a collector is told of it, and what happens while the collector does not listen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;

use super::exporter::{Answer, Takes};
use super::otlp::{ExportTraceServiceRequest, Span, StatusCode as Code, Value};
use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A tracer with its queue in hand.
fn tracer(sample: f64, capacity: usize) -> (Tracer, mpsc::Receiver<Box<Finished>>, Arc<Metrics>) {
    let (queue, inbox) = mpsc::channel(capacity);
    let (_, ended) = waiting::channel();
    let metrics = Metrics::new();
    let inner = Inner {
        sampler: Sampler::new(sample),
        queue,
        dropped: metrics.spans_dropped.clone(),
        closing: CancellationToken::new(),
        ended: Mutex::new(ended),
    };
    (Tracer(Arc::new(inner)), inbox, metrics)
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn begin(sample: f64, decides: Decides, parent: &str) -> Trace {
    tracer(sample, 1).0.begin(&mut headers(&[("traceparent", parent)]), decides, 1)
}

#[test]
fn trusted_peer_decides_what_is_recorded() {
    let silent = PARENT.replace("-01", "-00");
    for sample in [0.0, 0.5, 1.0] {
        assert!(begin(sample, Decides::Peer, PARENT).is_recorded());
        assert!(!begin(sample, Decides::Peer, &silent).is_recorded());
    }
}

#[test]
fn strangers_trace_goes_on_and_we_decide_what_is_recorded() {
    let silent = PARENT.replace("-01", "-00");
    for parent in [PARENT, &silent] {
        let [never, always] = [0.0, 1.0].map(|sample| begin(sample, Decides::Ourselves, parent));
        assert_eq!((never.is_recorded(), always.is_recorded()), (false, true));
        assert_eq!((never.id().to_string().as_str(), always.id().to_string().as_str()), (TRACE, TRACE));
    }
    let recorded = (0..1_000).filter(|_| begin(0.5, Decides::Ourselves, PARENT).is_recorded()).count();
    assert!((400..600).contains(&recorded), "{recorded} of 1000, all of one trace");
}

#[test]
fn share_of_new_traces_is_recorded() {
    let recorded = |sample| (0..1_000).filter(|_| begin(sample, Decides::Peer, "no parent").is_recorded()).count();
    assert_eq!((recorded(0.0), recorded(1.0)), (0, 1_000));
    assert!((400..600).contains(&recorded(0.5)));
}

#[test]
fn state_of_no_trace_is_not_passed_on() {
    let (tracer, ..) = tracer(1.0, 1);
    let mut broken = headers(&[("traceparent", "what"), ("tracestate", "a=1")]);
    assert_ne!(tracer.begin(&mut broken, Decides::Peer, 1).id().to_string(), TRACE);
    assert_eq!(broken.get("tracestate"), None);
    let mut good = headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
    let trace = tracer.begin(&mut good, Decides::Peer, 1);
    assert_eq!(good.get_all("tracestate").iter().count(), 2);
    assert_eq!(trace.recording.unwrap().told.state, "a=1,b=2");
}

static URL: LazyLock<UpstreamUrl> = LazyLock::new(|| "http://10.0.0.1:8080".parse().unwrap());

fn attempting(endpoint: &Arc<str>, begun: Instant) -> Attempting<'_> {
    Attempting { endpoint, url: &URL, path: "/cart", begun }
}

/// What an endpoint is told.
fn told(trace: &mut Trace) -> TraceParent {
    let mut headers = headers(&[("traceparent", "whatever the client said")]);
    trace.attempting(&attempting(&"web-1".into(), Instant::now()), &mut headers);
    assert_eq!(headers.get_all("traceparent").iter().count(), 1);
    TraceParent::of(&headers).unwrap()
}

#[test]
fn each_attempt_has_a_span_of_its_own_and_its_endpoint_is_told() {
    let mut trace = begin(1.0, Decides::Peer, PARENT);
    let [first, second] = [told(&mut trace), told(&mut trace)];
    assert_ne!(first.span, second.span);
    for parent in [first, second] {
        assert_eq!((parent.trace.to_string().as_str(), parent.sampled), (TRACE, true));
        assert!(parent.span != trace.span && parent.span != TraceParent::read(PARENT.as_bytes()).unwrap().span);
    }
    let spans: Vec<_> = trace.recording.unwrap().told.attempts.iter().map(|attempt| attempt.span).collect();
    assert_eq!(spans, [first.span, second.span]);
}

#[test]
fn endpoints_are_told_that_nothing_is_recorded() {
    let mut trace = begin(0.0, Decides::Ourselves, PARENT);
    let parent = told(&mut trace);
    assert_eq!((parent.trace.to_string().as_str(), parent.sampled), (TRACE, false));
}

/// Everything there can be.
fn served(started: Instant) -> Served {
    Served {
        time: SystemTime::UNIX_EPOCH + Duration::from_hours(500_000),
        started,
        ended: started + Duration::from_millis(30),
        listener: "web".into(),
        port: HeaderValue::from_static("8443"),
        route: Some("cart".into()),
        pattern: Some("/cart/*".into()),
        service: Some("shop".into()),
        client_ip: "203.0.113.7".parse().unwrap(),
        secure: true,
        method: "GET".to_owned(),
        path: "/cart/7".to_owned(),
        protocol: Version::HTTP_2,
        host: "shop.example".to_owned(),
        user_agent: Some("curl/8".to_owned()),
        request_id: "0190-7a".to_owned(),
        status: 200,
        reason: None,
        broke_off: false,
    }
}

/// The spans of a request that went this way, whose attempts ended so.
fn spans_of(served: Served, ends: &[(&'static str, Option<u16>)]) -> Vec<Span> {
    let (tracer, mut inbox, _) = tracer(1.0, 1);
    let mut headers = headers(&[("traceparent", PARENT), ("tracestate", "a=1")]);
    let mut trace = tracer.begin(&mut headers, Decides::Peer, 42);
    let started = served.started;
    for (at, (outcome, status)) in (0..).step_by(10).zip(ends) {
        let begun = started + Duration::from_millis(at);
        trace.attempting(&attempting(&format!("web-{at}").into(), begun), &mut headers);
        let status = status.map(|status| StatusCode::from_u16(status).unwrap());
        if !outcome.is_empty() {
            trace.attempted(Attempted { outcome, status, at: begun + Duration::from_millis(5) });
        }
    }
    trace.finish(|| served);
    span::spans(&inbox.try_recv().unwrap()).collect()
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
    };
    let pair = |one: &otlp::KeyValue| text(one.value.as_ref().unwrap().value.as_ref().unwrap());
    span.attributes.iter().map(|one| (one.key.as_str(), pair(one))).collect()
}

#[track_caller]
fn check(span: &Span, expected: &[(&str, &str)]) {
    let expected: BTreeMap<&str, String> = expected.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    assert_eq!(attributes(span), expected);
}

fn failure(span: &Span) -> Option<&str> {
    let status = span.status.as_ref()?;
    assert_eq!(status.code, i32::from(Code::Error));
    Some(&status.message)
}

const MILLI: u64 = 1_000_000;
const START: u64 = 1_800_000_000_000 * MILLI;

#[test]
fn span_of_a_request_says_what_was_asked_and_what_came_of_it() {
    let spans = spans_of(served(Instant::now()), &[("response", Some(200))]);
    let [server, _] = spans.as_slice() else { panic!("{spans:?}") };
    check(
        server,
        &[
            ("client.address", "203.0.113.7"),
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("http.route", "/cart/*"),
            ("network.protocol.version", "2"),
            ("server.address", "shop.example"),
            ("server.port", "8443"),
            ("url.path", "/cart/7"),
            ("url.scheme", "https"),
            ("user_agent.original", "curl/8"),
            ("waypost.generation", "42"),
            ("waypost.listener", "web"),
            ("waypost.request_id", "0190-7a"),
            ("waypost.route", "cart"),
            ("waypost.service", "shop"),
        ],
    );
    assert_eq!((server.name.as_str(), server.kind, failure(server)), ("GET /cart/*", 2, None));
    assert_eq!((server.start_time_unix_nano, server.end_time_unix_nano), (START, START + 30 * MILLI));
    assert_eq!((server.trace_state.as_str(), server.flags), ("a=1", 0x301));
    assert_eq!(server.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(server.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
}

#[test]
fn span_of_an_attempt_says_where_it_went_and_why_it_failed() {
    let spans = spans_of(served(Instant::now()), &[("connect_failed", None), ("response_5xx", Some(503))]);
    let [server, first, second] = spans.as_slice() else { panic!("{spans:?}") };
    check(
        first,
        &[
            ("error.type", "connect_failed"),
            ("http.request.method", "GET"),
            ("server.address", "10.0.0.1"),
            ("server.port", "8080"),
            ("url.full", "http://10.0.0.1:8080/cart"),
            ("waypost.endpoint", "web-0"),
            ("waypost.outcome", "connect_failed"),
            ("waypost.service", "shop"),
        ],
    );
    let second_says = attributes(second);
    assert_eq!((second_says["http.request.resend_count"].as_str(), second_says["error.type"].as_str()), ("1", "503"));
    assert_eq!((failure(first), failure(second)), (Some("connect_failed"), Some("503")));
    assert_eq!((first.name.as_str(), first.kind, first.flags), ("GET", 3, 0x101));
    assert_eq!((second.start_time_unix_nano, second.end_time_unix_nano), (START + 10 * MILLI, START + 15 * MILLI));
    assert!(spans[1..].iter().all(|span| span.parent_span_id == server.span_id && span.trace_id == server.trace_id));
}

#[test]
fn attempt_that_nobody_waited_for_ends_with_the_request() {
    let left = Served { status: 499, ..served(Instant::now()) };
    let spans = spans_of(left, &[("", None)]);
    assert_eq!((failure(&spans[0]), failure(&spans[1])), (None, Some("client_left")));
    assert_eq!(spans[1].end_time_unix_nano, START + 30 * MILLI);
}

#[test]
fn what_we_have_answered_has_its_reason() {
    let refused =
        Served { status: 404, reason: Some("no_route"), route: None, pattern: None, ..served(Instant::now()) };
    let failed = Served { status: 502, reason: Some("connect_failed"), ..served(Instant::now()) };
    let broken = Served { status: 200, reason: Some("upstream_reset"), broke_off: true, ..served(Instant::now()) };
    let passed = Served { status: 500, ..served(Instant::now()) };
    for (served, reason, kind) in [
        (refused, Some("no_route"), None),
        (failed, Some("connect_failed"), Some("connect_failed")),
        (broken, Some("upstream_reset"), Some("upstream_reset")),
        (passed, None, Some("500")),
    ] {
        let spans = spans_of(served, &[]);
        let said = attributes(&spans[0]);
        assert_eq!(said.get("waypost.reason").map(String::as_str), reason);
        assert_eq!((said.get("error.type").map(String::as_str), failure(&spans[0])), (kind, kind));
    }
}

#[test]
fn names_are_few() {
    let name = |served: Served| spans_of(served, &[])[0].name.clone();
    assert_eq!(name(Served { pattern: None, ..served(Instant::now()) }), "GET cart");
    assert_eq!(name(Served { pattern: None, route: None, ..served(Instant::now()) }), "GET");
    let spans = spans_of(Served { method: "BREW".to_owned(), ..served(Instant::now()) }, &[("response", Some(200))]);
    assert_eq!((spans[0].name.as_str(), spans[1].name.as_str()), ("HTTP /cart/*", "HTTP"));
    let said = attributes(&spans[0]);
    assert_eq!(
        (said["http.request.method"].as_str(), said["http.request.method_original"].as_str()),
        ("_OTHER", "BREW")
    );
}

#[test]
fn strangers_texts_are_kept_short_and_as_text() {
    assert_eq!((kept(b"caf\xe9").as_str(), kept(&[b'a'; 5_000]).len()), ("caf\u{fffd}", 512));
    assert_eq!(kept(&[0xff; 5_000]).len(), 510);
    let fields = [("traceparent", PARENT), ("tracestate", &"a".repeat(513))];
    assert_eq!(state(&headers(&fields)), "");
}

fn push(tracer: &Tracer) {
    let mut trace = tracer.begin(&mut HeaderMap::new(), Decides::Peer, 1);
    trace.attempting(&attempting(&"web-1".into(), Instant::now()), &mut HeaderMap::new());
    trace.finish(|| served(Instant::now()));
}

#[test]
fn full_queue_drops_spans_and_counts_them() {
    let (tracer, _inbox, metrics) = tracer(1.0, 2);
    (0..5).for_each(|_| push(&tracer));
    assert_eq!(metrics.spans_dropped.get(), 6);
}

/// A collector that answers as it is told, and then takes everything.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<tokio::time::Instant>>>,
    taken: Arc<Mutex<usize>>,
}

impl Takes for Scripted {
    async fn take(&mut self, export: Bytes) -> Answer {
        self.asked.lock().push(tokio::time::Instant::now());
        let answer = self.answers.lock().pop_front();
        let answer = answer.unwrap_or(Answer::Taken { rejected: 0, why: String::new() });
        if matches!(answer, Answer::Taken { .. }) {
            let request = ExportTraceServiceRequest::decode(export).unwrap();
            *self.taken.lock() += request.resource_spans[0].scope_spans[0].spans.len();
        }
        answer
    }
}

struct Bench {
    tracer: Tracer,
    collector: Scripted,
    metrics: Arc<Metrics>,
    running: tokio::task::JoinHandle<()>,
}

fn bench(answers: impl IntoIterator<Item = Answer>) -> Bench {
    let (tracer, inbox, metrics) = tracer(1.0, 10_000);
    let config: Tracing = toml::from_str("otlp = 'http://collector'").unwrap();
    let collector = Scripted { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Scripted::default() };
    let parts = (collector.clone(), Origin::of(&config));
    let running = tokio::spawn(Exporter::new(inbox, tracer.0.closing.clone(), parts, &metrics).run());
    Bench { tracer, collector, metrics, running }
}

impl Bench {
    /// Exported, dropped, errors; once nobody can record any more and all is sent or given up.
    async fn ended(self) -> (u64, u64, u64) {
        drop(self.tracer);
        self.running.await.unwrap();
        let Metrics { spans_exported, spans_dropped, span_export_errors, .. } = &*self.metrics;
        (spans_exported.get(), spans_dropped.get(), span_export_errors.get())
    }
}

fn later() -> Answer {
    Answer::Later { why: "away".to_owned(), after: None }
}

#[tokio::test(start_paused = true)]
async fn all_that_was_queued_is_sent_when_the_last_handle_goes() {
    let bench = bench([]);
    (0..1_300).for_each(|_| push(&bench.tracer));
    let (taken, asked) = (Arc::clone(&bench.collector.taken), Arc::clone(&bench.collector.asked));
    assert_eq!(bench.ended().await, (2_600, 0, 0));
    assert_eq!((*taken.lock(), asked.lock().len()), (2_600, 6));
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_ever_more_seldom() {
    let bench = bench(std::iter::repeat_n(later(), 8));
    push(&bench.tracer);
    let asked = Arc::clone(&bench.collector.asked);
    assert_eq!(bench.ended().await, (2, 0, 8));
    let pauses: Vec<_> = asked.lock().windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, most) in pauses.iter().zip([250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000]) {
        assert!(*pause >= Duration::from_millis(most / 2) && *pause <= Duration::from_millis(most + 2), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn collector_says_when_to_come_again() {
    let after = Some(Duration::from_secs(20));
    let bench = bench([Answer::Later { why: "slowly".to_owned(), after }]);
    push(&bench.tracer);
    let asked = Arc::clone(&bench.collector.asked);
    assert_eq!(bench.ended().await, (2, 0, 1));
    let asked = asked.lock();
    assert!((asked[1] - asked[0]).abs_diff(Duration::from_secs(20)) < Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn collector_that_stays_away_costs_spans_after_a_minute() {
    let bench = bench(std::iter::repeat_n(later(), 1_000));
    push(&bench.tracer);
    let begun = tokio::time::Instant::now();
    let (exported, dropped, errors) = bench.ended().await;
    assert_eq!((exported, dropped), (0, 2));
    assert!((12..=40).contains(&errors), "{errors} tries");
    assert!((Duration::from_secs(54)..Duration::from_secs(66)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_sent_again() {
    let rejected = Answer::Taken { rejected: 1, why: "too old".to_owned() };
    let bench = bench([Answer::Refused("no".to_owned()), rejected]);
    push(&bench.tracer);
    tokio::time::sleep(Duration::from_secs(1)).await;
    push(&bench.tracer);
    assert_eq!(bench.ended().await, (1, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn end_of_the_process_tries_once_and_counts_what_is_lost() {
    let bench = bench(std::iter::repeat_n(later(), 1_000));
    (0..600).for_each(|_| push(&bench.tracer));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = tokio::time::Instant::now();
    bench.tracer.0.closing.cancel();
    let (kept, ended) = (bench.tracer.clone(), bench.ended());
    assert_eq!(ended.await.1, 1_200);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    push(&kept);
}

#[test]
fn resource_says_who_sends() {
    let config =
        "otlp = 'http://collector'\nservice_name = 'edge'\nresource = { 'service.version' = '7', team = 'shop' }";
    let config: Tracing = toml::from_str(config).unwrap();
    let said = Span { attributes: Origin::of(&config).resource.attributes, ..Span::default() };
    let said = attributes(&said);
    assert_eq!(said.keys().collect::<Vec<_>>(), [&"service.instance.id", &"service.name", &"service.version", &"team"]);
    assert_eq!((said["service.name"].as_str(), said["service.version"].as_str()), ("edge", "7"));
}
