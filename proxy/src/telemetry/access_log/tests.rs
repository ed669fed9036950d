//! The access log as its readers see it: exact lines, rotation, and what happens when the writer cannot keep up.

use std::fs;
use std::io::Write;
use std::sync::{LazyLock, mpsc};
use std::time::Instant;

use waypost_config::telemetry::{AccessLogFormat, AccessLogPath};
use waypost_config::value::Percent;

use super::*;
use crate::telemetry::traces::TraceParent;

const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn record() -> Record<'static> {
    static ATTEMPTS: LazyLock<[Attempt; 2]> = LazyLock::new(|| {
        [
            Attempt { endpoint: "web-1".into(), outcome: "connect_failed", elapsed: Duration::from_micros(300) },
            Attempt { endpoint: "web-2".into(), outcome: "ok", elapsed: Duration::from_millis(8) },
        ]
    });
    static TLS: LazyLock<Tls> = LazyLock::new(|| Tls {
        version: "TLSv1.3",
        cipher: "TLS13_AES_128_GCM_SHA256",
        sni: Some("shop.example".to_owned()),
        client_subject: None,
    });
    static HEADERS: [HeaderValue; 3] = [
        HeaderValue::from_static("0190-7a"),
        HeaderValue::from_static("curl/8"),
        HeaderValue::from_static("https://shop.example/"),
    ];
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_237_920_123),
        listener: "websecure",
        route: Some("shop"),
        service: Some("shop"),
        endpoint: Some("web-2"),
        client_ip: "203.0.113.7".parse().unwrap(),
        peer: "10.0.0.9:40000".parse().unwrap(),
        method: &Method::GET,
        target: "/cart?item=1",
        protocol: Version::HTTP_2,
        host: "shop.example",
        status: 200,
        reason: None,
        request_bytes: 0,
        response_bytes: 1_234,
        duration: Duration::from_micros(12_345),
        head_after: Some(Duration::from_micros(9_001)),
        attempts: &*ATTEMPTS,
        tls: Some(&TLS),
        request_id: &HEADERS[0],
        trace_id: TraceParent::read(PARENT).map(|parent| parent.trace),
        user_agent: Some(&HEADERS[1]),
        referer: Some(&HEADERS[2]),
        upgraded: false,
    }
}

/// A request that met nothing and said nothing.
fn bare() -> Record<'static> {
    Record {
        route: None,
        service: None,
        endpoint: None,
        status: 404,
        reason: Some("no_route"),
        response_bytes: 0,
        head_after: None,
        attempts: &[],
        tls: None,
        trace_id: None,
        user_agent: None,
        referer: None,
        ..record()
    }
}

fn line(format: AccessLogFormat, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    line::write(format, record, &mut out);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(format: AccessLogFormat, record: &Record<'_>, expected: &str) {
    assert_eq!(line(format, record), format!("{expected}\n"));
}

#[test]
fn json_line_has_every_field() {
    check(
        AccessLogFormat::Json,
        &record(),
        concat!(
            r#"{"time":"2026-11-21T05:12:00.123Z","listener":"websecure","route":"shop","service":"shop","#,
            r#""endpoint":"web-2","client_ip":"203.0.113.7","peer":"10.0.0.9:40000","method":"GET","#,
            r#""target":"/cart?item=1","protocol":"HTTP/2.0","host":"shop.example","status":200,"reason":null,"#,
            r#""request_bytes":0,"response_bytes":1234,"duration_ms":12.345,"head_after_ms":9.001,"#,
            r#""attempts":[{"endpoint":"web-1","outcome":"connect_failed","ms":0.300},"#,
            r#"{"endpoint":"web-2","outcome":"ok","ms":8.000}],"#,
            r#""tls":{"version":"TLSv1.3","cipher":"TLS13_AES_128_GCM_SHA256","sni":"shop.example","#,
            r#""client_subject":null},"request_id":"0190-7a","#,
            r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","user_agent":"curl/8","#,
            r#""referer":"https://shop.example/","upgraded":false}"#,
        ),
    );
    check(
        AccessLogFormat::Json,
        &bare(),
        concat!(
            r#"{"time":"2026-11-21T05:12:00.123Z","listener":"websecure","route":null,"service":null,"#,
            r#""endpoint":null,"client_ip":"203.0.113.7","peer":"10.0.0.9:40000","method":"GET","#,
            r#""target":"/cart?item=1","protocol":"HTTP/2.0","host":"shop.example","status":404,"#,
            r#""reason":"no_route","request_bytes":0,"response_bytes":0,"duration_ms":12.345,"head_after_ms":null,"#,
            r#""attempts":[],"tls":null,"request_id":"0190-7a","trace_id":null,"user_agent":null,"referer":null,"#,
            r#""upgraded":false}"#,
        ),
    );
}

#[test]
fn guide_explains_every_field() {
    let guide = include_str!("../../../../docs/guides/observability.md");
    let object: serde_json::Value = serde_json::from_str(&line(AccessLogFormat::Json, &record())).unwrap();
    let inner = [&object, &object["tls"], &object["attempts"][0]];
    let fields = inner.iter().flat_map(|value| value.as_object().unwrap().keys());
    for field in fields {
        let row = |line: &&str| line.starts_with("| ") && line.contains(&format!("`{field}`"));
        assert!(guide.lines().any(|line| row(&line)), "{field} is not in the guide");
    }
}

#[test]
fn common_and_combined_lines_are_as_apache_writes_them() {
    let common = r#"203.0.113.7 - - [21/Nov/2026:05:12:00 +0000] "GET /cart?item=1 HTTP/2.0" 200 1234"#;
    check(AccessLogFormat::Common, &record(), common);
    let combined = format!(r#"{common} "https://shop.example/" "curl/8""#);
    check(AccessLogFormat::Combined, &record(), &combined);
    let bare_line = r#"203.0.113.7 - - [21/Nov/2026:05:12:00 +0000] "GET /cart?item=1 HTTP/2.0" 404 - "-" "-""#;
    check(AccessLogFormat::Combined, &bare(), bare_line);
}

/// What a client can send at worst: every byte that a header value may have, and a path with all that a URI takes.
fn hostile() -> Record<'static> {
    static VALUE: LazyLock<HeaderValue> = LazyLock::new(|| {
        let bytes: Vec<u8> = (0u8..=255).filter(|byte| HeaderValue::from_bytes(&[*byte]).is_ok()).collect();
        HeaderValue::from_bytes(&[b"\",\"status\":200} \xc2\x9b31m \xe2\x80\xa8", &bytes[..]].concat()).unwrap()
    });
    Record {
        host: "a\"b\\c\r\nd\u{7f}",
        target: "/\"x\u{e9}",
        request_id: &VALUE,
        user_agent: Some(&VALUE),
        referer: Some(&VALUE),
        ..record()
    }
}

#[test]
fn nothing_a_client_sends_can_end_a_line_or_a_field() {
    let printable = |text: &str| text.chars().all(|letter| !letter.is_control() && letter != '\u{2028}');
    for format in [AccessLogFormat::Json, AccessLogFormat::Common, AccessLogFormat::Combined] {
        let line = line(format, &hostile());
        let body = line.strip_suffix('\n').unwrap();
        assert!(printable(body), "{format:?}: {body:?}");
    }
    let parsed: serde_json::Value = serde_json::from_str(&line(AccessLogFormat::Json, &hostile())).unwrap();
    assert_eq!(parsed["host"], "a\"b\\c\r\nd\u{7f}");
    assert_eq!(parsed["target"], "/\"x\u{e9}");
    let agent = String::from_utf8_lossy(hostile().user_agent.unwrap().as_bytes()).into_owned();
    assert_eq!(parsed["user_agent"], agent.as_str());
    assert_eq!(parsed.as_object().unwrap().len(), 24);
}

#[test]
fn combined_escapes_quotes_and_bytes_beyond_ascii() {
    let referer = HeaderValue::from_bytes(b"a\"b\\c\t\xe9").unwrap();
    let record = Record { referer: Some(&referer), user_agent: None, ..record() };
    let line = line(AccessLogFormat::Combined, &record);
    assert!(line.ends_with(" \"a\\\"b\\\\c\\x09\\xe9\" \"-\"\n"), "{line}");
}

fn config(path: &std::path::Path) -> config::AccessLog {
    let path = AccessLogPath::File(path.to_path_buf());
    config::AccessLog { path, format: AccessLogFormat::Json, sample: Percent::ALL }
}

fn numbered(status: u16, number: u64) -> Record<'static> {
    Record { status, response_bytes: number, ..record() }
}

/// The numbers of the records in a file, in order.
fn numbers(text: &str) -> Vec<u64> {
    let number = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["response_bytes"].as_u64().unwrap();
    text.lines().map(number).collect()
}

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[track_caller]
fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "did not become true within 10 s");
        std::thread::yield_now();
    }
}

#[test]
fn closing_the_log_writes_out_every_line_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let metrics = Metrics::new();
    let log = AccessLog::open(&config(&path), &metrics).unwrap();
    let clone = log.clone();
    for number in 0..5_000 {
        log.record(&numbered(200, number));
    }
    drop(log);
    clone.record(&numbered(200, 5_000));
    clone.close(PATIENCE);
    assert_eq!(numbers(&fs::read_to_string(&path).unwrap()), (0..=5_000).collect::<Vec<_>>());
    assert_eq!(metrics.access_log_lines.get(), 5_001);
    assert_eq!(metrics.access_log_dropped.get(), 0);
    clone.record(&numbered(200, 5_001));
    assert_eq!(metrics.access_log_dropped.get(), 1);
}

#[test]
fn last_handle_that_goes_leaves_no_line_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let metrics = Metrics::new();
    let log = AccessLog::open(&config(&path), &metrics).unwrap();
    (0..2_000).for_each(|number| log.record(&numbered(200, number)));
    drop(log);
    eventually(|| metrics.access_log_lines.get() == 2_000);
    assert_eq!(numbers(&fs::read_to_string(&path).unwrap()).len(), 2_000);
}

#[test]
fn end_of_the_process_does_not_wait_for_a_reader_that_hangs() {
    let bench = bench(4);
    bench.log.record(&numbered(200, 0));
    bench.begun.recv().unwrap();
    let begun = Instant::now();
    bench.log.close(Duration::from_millis(10));
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn line_is_written_while_the_log_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(&config(&path), &Metrics::new()).unwrap();
    log.record(&record());
    eventually(|| fs::read_to_string(&path).unwrap().ends_with('\n'));
}

#[test]
fn rotation_by_rename_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let rotated = |at: u64| folder.path().join(format!("access.log.{at}"));
    let log = AccessLog::open(&config(&path), &Metrics::new()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..3_000).for_each(|number| log.record(&numbered(200, number))));
        for at in 0..3 {
            fs::rename(&path, rotated(at)).unwrap();
            log.reopen();
            eventually(|| path.exists());
        }
    });
    log.record(&numbered(200, 3_000));
    log.close(PATIENCE);
    let files = (0..3).map(rotated).chain([path]);
    let all: Vec<u64> = files.flat_map(|file| numbers(&fs::read_to_string(file).unwrap())).collect();
    assert_eq!(all, (0..=3_000).collect::<Vec<_>>());
}

#[test]
fn reopen_that_fails_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("sub/access.log"), folder.path().join("moved"));
    fs::create_dir(folder.path().join("sub")).unwrap();
    let metrics = Metrics::new();
    let log = AccessLog::open(&config(&path), &metrics).unwrap();
    fs::rename(folder.path().join("sub"), &moved).unwrap();
    log.reopen();
    eventually(|| metrics.access_log_errors.get() == 1);
    log.record(&numbered(200, 1));
    log.close(PATIENCE);
    assert_eq!(numbers(&fs::read_to_string(moved.join("access.log")).unwrap()), [1]);
}

#[test]
fn failed_requests_are_logged_whatever_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let none = config::AccessLog { sample: Percent(0.0), ..config(&path) };
    let log = AccessLog::open(&none, &Metrics::new()).unwrap();
    for (number, status) in [(1, 200), (2, 499), (3, 500), (4, 503)] {
        log.record(&numbered(status, number));
    }
    log.close(PATIENCE);
    assert_eq!(numbers(&fs::read_to_string(&path).unwrap()), [3, 4]);
}

/// Says when a write begins, and then does as it is told: fail, or take so many bytes.
struct Scripted {
    begun: mpsc::Sender<()>,
    orders: mpsc::Receiver<Option<usize>>,
    written: mpsc::Sender<Vec<u8>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.begun.send(());
        let order = self.orders.recv().unwrap_or(Some(usize::MAX));
        let count = order.ok_or(io::ErrorKind::StorageFull)?.min(bytes.len());
        let _ = self.written.send(bytes[..count].to_vec());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    log: AccessLog,
    begun: mpsc::Receiver<()>,
    orders: mpsc::Sender<Option<usize>>,
    written: mpsc::Receiver<Vec<u8>>,
    metrics: Arc<Metrics>,
}

/// With a queue that holds so many lines of [`numbered`].
fn bench(lines: usize) -> Bench {
    let capacity = lines * line(AccessLogFormat::Json, &numbered(200, 0)).len();
    let (begun, begun_seen) = mpsc::channel();
    let (orders, orders_taken) = mpsc::channel();
    let (written, written_seen) = mpsc::channel();
    let metrics = Metrics::new();
    let target = Target { out: Box::new(Scripted { begun, orders: orders_taken, written }), path: None };
    let queue = Queue::new(capacity, metrics.access_log_dropped.clone());
    let log = AccessLog::start(&config("".as_ref()), target, queue, &metrics).unwrap();
    Bench { log, begun: begun_seen, orders, written: written_seen, metrics }
}

impl Bench {
    /// Lets all further writes pass, ends the log and returns what was written.
    fn finish(self) -> String {
        drop(self.orders);
        self.log.close(PATIENCE);
        String::from_utf8(self.written.into_iter().flatten().collect()).unwrap()
    }
}

#[test]
fn full_queue_drops_and_counts_and_never_waits() {
    let bench = bench(4);
    bench.log.record(&numbered(200, 0));
    bench.begun.recv().unwrap();
    for number in 1..=7 {
        bench.log.record(&numbered(200, number));
    }
    assert_eq!(bench.metrics.access_log_dropped.get(), 3);
    assert_eq!(numbers(&bench.finish()), [0, 1, 2, 3, 4]);
}

#[test]
fn full_disk_is_counted_and_recovers_without_a_torn_or_doubled_line() {
    let bench = bench(4);
    let metrics = Arc::clone(&bench.metrics);
    bench.log.record(&numbered(200, 0));
    bench.orders.send(Some(10)).unwrap();
    bench.orders.send(None).unwrap();
    bench.orders.send(None).unwrap();
    eventually(|| metrics.access_log_errors.get() == 2);
    bench.log.record(&numbered(200, 1));
    assert_eq!(metrics.access_log_lines.get(), 0);
    bench.orders.send(Some(usize::MAX)).unwrap();
    eventually(|| metrics.access_log_lines.get() == 1);
    assert_eq!(numbers(&bench.finish()), [0, 1]);
    assert_eq!((metrics.access_log_lines.get(), metrics.access_log_dropped.get()), (2, 0));
}

#[test]
fn lines_that_a_full_disk_swallowed_at_the_end_are_counted_as_dropped() {
    let bench = bench(4);
    let metrics = Arc::clone(&bench.metrics);
    for _ in 0..100 {
        bench.orders.send(None).unwrap();
    }
    bench.log.record(&numbered(200, 0));
    bench.begun.recv().unwrap();
    bench.log.close(PATIENCE);
    assert_eq!((metrics.access_log_lines.get(), metrics.access_log_dropped.get()), (0, 1));
}
