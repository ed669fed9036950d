//! What a client or an endpoint may try over HTTP/2, frame by frame: each case ends its stream or its connection, is
//! refused with a status, or reaches the endpoint as one HTTP/1.1 request that cannot be read in two ways.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use waypost_tests::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Field, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, WITH_PRIORITY, Wire, block, data, frame, headers,
};
use waypost_tests::origin::Origin;
use waypost_tests::{Findings, Stack, client, connection, eventually, raw};

/// Connections to the endpoint are not kept, so that whatever was sent there has come when none is open.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    pool = { max_idle = 0 }
    endpoints = [{ name = "origin", url = "http://{origin}" }]
"#;

/// What becomes of stream 1.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    /// A reset with this code, and nothing at the endpoint. The connection goes on.
    Stream(u32),
    /// A GOAWAY that names an error, or nothing but the end, and nothing at the endpoint. Of the codes that fit, each
    /// implementation chooses its own.
    Connection,
    /// A reply of ours, and nothing at the endpoint.
    Refused(u16),
    /// The endpoint's answer, after it saw this request line, the field that frames the body, and the body.
    Forwarded(&'static str, &'static str, &'static str),
    /// Nothing at all.
    Ignored,
}

use Expected::{Connection, Forwarded, Ignored, Refused, Stream};

/// RFC 9113 section 7.
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;

/// A malformed request (RFC 9113 section 8.1.1).
const MALFORMED: Expected = Stream(PROTOCOL);

/// A request that can be read in more than one way.
const BAD: Expected = Refused(400);

/// `GET /` without a body.
const SENT: Expected = Forwarded("GET / HTTP/1.1", "", "");

const M: Field<'static> = (b":method", b"GET");
const POST: Field<'static> = (b":method", b"POST");
const S: Field<'static> = (b":scheme", b"http");
const P: Field<'static> = (b":path", b"/");
const A: Field<'static> = (b":authority", b"a");

/// The stream of the good request behind each case.
const BEHIND: u32 = 101;

/// What was seen of a connection.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// What became of stream 1.
    fate: Fate,
    /// Whether the good request behind it was answered.
    behind: bool,
    /// Request line, framing and body of what the endpoint saw, but for the good request.
    requests: Vec<[String; 3]>,
}

#[derive(Debug, PartialEq)]
enum Fate {
    Nothing,
    Reset(u32),
    /// The connection ended, and the stream with it.
    Ended,
    /// The connection is about to end, although nothing is wrong.
    GoneAway,
    Answered(u16),
}

impl Expected {
    fn outcome(self) -> Outcome {
        let outcome = |fate, behind| Outcome { fate, behind, requests: vec![] };
        match self {
            Stream(code) => outcome(Fate::Reset(code), true),
            Connection => outcome(Fate::Ended, false),
            Refused(status) => outcome(Fate::Answered(status), true),
            Ignored => outcome(Fate::Nothing, true),
            Forwarded(line, framing, body) => Outcome {
                requests: vec![[line, framing, body].map(str::to_owned)],
                ..outcome(Fate::Answered(200), true)
            },
        }
    }
}

struct Table {
    stack: Stack,
    origin: Origin,
    findings: Findings,
}

impl Table {
    async fn new() -> Table {
        let origin = Origin::start().await;
        let stack = Stack::start(&CONFIG.replace("{origin}", &origin.address().to_string())).await;
        Table { stack, origin, findings: Findings::default() }
    }

    /// Sends a case and the good request behind it.
    async fn check(&mut self, case: &str, bytes: &[u8], expected: Expected) {
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
        self.check_all(case, &[&begin, bytes].concat(), expected).await;
    }

    async fn check_all(&mut self, case: &str, bytes: &[u8], expected: Expected) {
        let mut wire = Wire::connect(self.stack.address("web")).await;
        let behind = headers(BEHIND, WHOLE, &[M, S, (b":path", b"/behind"), A]);
        wire.send(&[bytes, &behind].concat()).await;
        let (fate, behind) = watch(&mut wire, expected).await;
        drop(wire);
        eventually!(self.origin.open() == 0);
        let requests = self.origin.take().await.into_iter().filter(|request| !request.line.contains("/behind"));
        let requests = requests.map(|request| [request.line, request.framing, request.body]).collect();
        self.findings.note(case, &Outcome { fate, behind, requests }, &expected.outcome());
        assert_eq!(self.stack.get("/behind").await.text(), "good", "{case}: others are served");
        self.origin.take().await;
    }
}

/// Reads until it is clear what became of stream 1 and of the request behind it.
async fn watch(wire: &mut Wire, expected: Expected) -> (Fate, bool) {
    let (mut fate, mut behind) = (Fate::Nothing, false);
    while fate == Fate::Nothing && expected != Ignored || !behind {
        let Some(frame) = wire.next().await else { return (Fate::Ended, false) };
        let code =
            |at: usize| frame.payload.get(at..at + 4).map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap()));
        match (frame.kind, frame.stream) {
            (GOAWAY, _) => return (if code(4) == 0 { Fate::GoneAway } else { Fate::Ended }, false),
            (RST_STREAM, BEHIND) => return (fate, false),
            (RST_STREAM, _) => fate = Fate::Reset(code(0)),
            (HEADERS, BEHIND) => behind = frames::status(&frame.payload) == 200,
            (HEADERS, _) => fate = Fate::Answered(frames::status(&frame.payload)),
            _ => {}
        }
    }
    (fate, behind)
}

fn shown(fields: &[Field<'_>]) -> String {
    let line = |(name, value): &Field<'_>| format!("{}={}", name.escape_ascii(), value.escape_ascii());
    fields.iter().map(line).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn request_has_each_pseudo_field_once_and_first() {
    let mut table = Table::new().await;
    let cases: &[(&[Field<'_>], Expected)] = &[
        (&[M, S, P, A], SENT),
        (&[A, P, S, M], SENT),
        (&[M, S, P, (b"host", b"a")], SENT),
        // Missing.
        (&[S, P, A], MALFORMED),
        (&[M, P, A], MALFORMED),
        (&[M, S, A], MALFORMED),
        (&[M, S, (b"host", b"a")], BAD),
        (&[M, S, P], BAD),
        (&[], MALFORMED),
        (&[(b"x", b"y")], MALFORMED),
        // Doubled.
        (&[M, M, S, P, A], MALFORMED),
        (&[M, POST, S, P, A], MALFORMED),
        (&[M, S, S, P, A], MALFORMED),
        (&[M, S, P, P, A], MALFORMED),
        (&[M, S, P, (b":path", b"/x"), A], MALFORMED),
        (&[M, S, P, A, A], MALFORMED),
        (&[M, S, P, A, (b":authority", b"b")], MALFORMED),
        // After others.
        (&[M, S, P, (b"x", b"y"), A], MALFORMED),
        (&[(b"x", b"y"), M, S, P, A], MALFORMED),
        // Unknown, or of somebody else.
        (&[M, S, P, A, (b":x", b"y")], Connection),
        (&[M, S, P, A, (b":status", b"200")], MALFORMED),
        (&[M, S, P, A, (b":protocol", b"websocket")], MALFORMED),
        (&[M, S, P, A, (b":", b"y")], Connection),
        (&[M, S, P, A, (b":host", b"b")], Connection),
        (&[M, S, P, A, (b":Path", b"/x")], Connection),
    ];
    for (fields, expected) in cases {
        table.check(&shown(fields), &headers(1, WHOLE, fields), *expected).await;
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn pseudo_field_cannot_carry_a_head() {
    let mut table = Table::new().await;
    let method = |value| vec![(&b":method"[..], value), S, P, A];
    let scheme = |value| vec![M, (&b":scheme"[..], value), P, A];
    let path = |value| vec![M, S, (&b":path"[..], value), A];
    let authority = |value| vec![M, S, P, (&b":authority"[..], value)];
    let get = |line| Forwarded(line, "", "");
    let cases: Vec<(Vec<Field<'_>>, Expected)> = vec![
        (method(b""), Connection),
        (method(b"GE T"), Connection),
        (method(b"GET / HTTP/1.1\r\nx: y\r\n\r\nGET"), Connection),
        (method(b"GET\n"), Connection),
        (method(b"G\0T"), Connection),
        (method(b"\xc3\xa9"), Connection),
        (method(b"get"), get("get / HTTP/1.1")),
        (method(b"TRACE"), Refused(405)),
        (vec![(b":method", b"CONNECT"), A], Refused(405)),
        (vec![(b":method", b"CONNECT"), (b":authority", b"u@a:80")], BAD),
        (method(b"CONNECT"), MALFORMED),
        (scheme(b""), BAD),
        (scheme(b"h ttp"), MALFORMED),
        (scheme(b"http\r\nx: y"), MALFORMED),
        (scheme(b"http://a/x?"), MALFORMED),
        (scheme(b"https"), SENT),
        (scheme(b"ftp"), SENT),
        (path(b""), MALFORMED),
        (path(b"a"), MALFORMED),
        (path(b"a/b"), MALFORMED),
        (path(b"http://b/"), MALFORMED),
        (path(b" /"), MALFORMED),
        (path(b"/ "), MALFORMED),
        (path(b"/a b"), MALFORMED),
        (path(b"/ HTTP/1.1\r\nx: y\r\n\r\nGET /smuggled"), MALFORMED),
        (path(b"/\r\nx: y"), MALFORMED),
        (path(b"/\nx: y"), MALFORMED),
        (path(b"/\rx: y"), MALFORMED),
        (path(b"/\0"), MALFORMED),
        (path(b"/\t"), MALFORMED),
        (path(b"/\x7f"), MALFORMED),
        (path(b"/\xff"), Connection),
        (path(b"/?\r\nx: y"), MALFORMED),
        (path(b"*"), BAD),
        (path(b"/.."), BAD),
        (path(b"/%00"), BAD),
        (path(b"/%0d%0ax:%20y"), BAD),
        (path(b"/..%2fa"), BAD),
        (path(b"?a"), get("GET /?a HTTP/1.1")),
        (path(b"#a"), SENT),
        (path(b"/a#b"), get("GET /a HTTP/1.1")),
        (path(b"//b"), get("GET //b HTTP/1.1")),
        (path(b"/\xc3\xa9"), get("GET /%C3%A9 HTTP/1.1")),
        (path(b"/a/../b"), get("GET /b HTTP/1.1")),
        (authority(b""), MALFORMED),
        (authority(b"a b"), MALFORMED),
        (authority(b"a/b"), MALFORMED),
        (authority(b"a?b"), MALFORMED),
        (authority(b"a\r\nx: y"), MALFORMED),
        (authority(b"a\0"), MALFORMED),
        (authority(b"a\\b"), MALFORMED),
        (authority(b"[::1"), MALFORMED),
        (authority(b"a:80:80"), MALFORMED),
        (authority(b"u@a"), BAD),
        (authority(b"u:p@a"), BAD),
        (authority(b"a:b"), BAD),
        (authority(b"a:70000"), BAD),
        (authority(b":80"), BAD),
        (authority(b"a:80"), SENT),
        (authority(b"[::1]:80"), SENT),
    ];
    for (fields, expected) in cases {
        table.check(&shown(&fields), &headers(1, WHOLE, &fields), expected).await;
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn field_cannot_become_two_in_http1() {
    let mut table = Table::new().await;
    let cases: &[(Field<'_>, Expected)] = &[
        ((b"x", b"y"), SENT),
        ((b"x", b""), SENT),
        ((b"x", b"\xe9"), SENT),
        ((b"x", b"a\tb"), SENT),
        ((b"x_y", b"z"), SENT),
        ((b"te", b"trailers"), SENT),
        ((b"host", b"a"), SENT),
        // Names.
        ((b"", b"y"), Connection),
        ((b"X", b"y"), Connection),
        ((b"Host", b"a"), Connection),
        ((b"Content-Length", b"0"), Connection),
        ((b"x y", b"z"), Connection),
        ((b"x:", b"y"), Connection),
        ((b"x: y\r\nz", b"a"), Connection),
        ((b"x\ny", b"z"), Connection),
        ((b"x\0", b"y"), Connection),
        ((b"x\x7f", b"y"), Connection),
        ((b"\xc3\xa9", b"y"), Connection),
        // Values.
        ((b"x", b"a\r\ny: z"), Connection),
        ((b"x", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"), Connection),
        ((b"x", b"a\ny: z"), Connection),
        ((b"x", b"a\ry: z"), Connection),
        ((b"x", b"\n"), Connection),
        ((b"x", b"a\0b"), Connection),
        ((b"x", b"\x01"), Connection),
        ((b"x", b"\x7f"), Connection),
        ((b"cookie", b"a=1\r\nx: y"), Connection),
        // What belongs to one connection (RFC 9113 section 8.2.2).
        ((b"connection", b"close"), MALFORMED),
        ((b"connection", b"x"), MALFORMED),
        ((b"keep-alive", b"timeout=1"), MALFORMED),
        ((b"proxy-connection", b"close"), MALFORMED),
        ((b"transfer-encoding", b"chunked"), MALFORMED),
        ((b"transfer-encoding", b"identity"), MALFORMED),
        ((b"upgrade", b"h2c"), MALFORMED),
        ((b"te", b"gzip"), MALFORMED),
        ((b"te", b"trailers, gzip"), MALFORMED),
        // Hosts.
        ((b"host", b"b"), BAD),
        ((b"host", b"A"), BAD),
        ((b"host", b"a:80"), BAD),
        ((b"host", b"a "), BAD),
        ((b"host", b""), BAD),
        ((b"host", b"a\xe9"), BAD),
        ((b"host", b"u@a"), BAD),
        ((b"expect", b"tea"), Refused(417)),
    ];
    for (field, expected) in cases {
        table.check(&shown(&[*field]), &headers(1, WHOLE, &[M, S, P, A, *field]), *expected).await;
    }
    let two_hosts = [M, S, P, A, (b"host", b"a"), (b"host", b"a")];
    table.check("two hosts", &headers(1, WHOLE, &two_hosts), BAD).await;
    let two_hosts = [M, S, P, (b"host", b"a"), (b"host", b"b")];
    table.check("two hosts and no authority", &headers(1, WHOLE, &two_hosts), BAD).await;
    table.check("host that is none", &headers(1, WHOLE, &[M, S, P, (b"host", b"a/b")]), BAD).await;
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn body_is_as_long_as_it_says() {
    let mut table = Table::new().await;
    let length = Forwarded("POST / HTTP/1.1", "content-length: 5", "hello");
    let chunked = Forwarded("POST / HTTP/1.1", "transfer-encoding: chunked", "hello");
    let cases: &[(&[Field<'_>], &[u8], Expected)] = &[
        (&[], b"hello", chunked),
        (
            &[],
            b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
            Forwarded(
                "POST / HTTP/1.1",
                "transfer-encoding: chunked",
                "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
            ),
        ),
        (&[(b"content-length", b"5")], b"hello", length),
        (&[(b"content-length", b"4")], b"hello", MALFORMED),
        (&[(b"content-length", b"0")], b"hello", MALFORMED),
        (&[(b"content-length", b"0")], b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", MALFORMED),
        (&[(b"content-length", b"6")], b"hello", MALFORMED),
        (&[(b"content-length", b"5")], b"", MALFORMED),
        (&[(b"content-length", b"+5")], b"hello", MALFORMED),
        (&[(b"content-length", b"-5")], b"hello", MALFORMED),
        (&[(b"content-length", b"0x5")], b"hello", MALFORMED),
        (&[(b"content-length", b" 5")], b"hello", MALFORMED),
        (&[(b"content-length", b"5 ")], b"hello", MALFORMED),
        (&[(b"content-length", b"5, 5")], b"hello", MALFORMED),
        (&[(b"content-length", b"")], b"hello", MALFORMED),
        (&[(b"content-length", b"five")], b"hello", MALFORMED),
        (&[(b"content-length", b"18446744073709551621")], b"hello", MALFORMED),
        (&[(b"content-length", b"5"), (b"content-length", b"5")], b"hello", BAD),
        (&[(b"content-length", b"5"), (b"content-length", b"6")], b"hello", MALFORMED),
        (&[(b"content-length", b"0"), (b"content-length", b"5")], b"hello", MALFORMED),
        (&[(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], b"hello", MALFORMED),
        (&[(b"transfer-encoding", b"chunked")], b"5\r\nhello\r\n0\r\n\r\n", MALFORMED),
    ];
    for (fields, body, expected) in cases {
        let head = headers(1, END_HEADERS, &[&[POST, S, P, A], *fields].concat());
        let bytes = [head, data(1, END_STREAM, body)].concat();
        table.check(&format!("{} {}", shown(fields), body.escape_ascii()), &bytes, *expected).await;
    }
    let ended = |fields: &[Field<'_>]| headers(1, WHOLE, &[&[POST, S, P, A], fields].concat());
    let none = Forwarded("POST / HTTP/1.1", "content-length: 0", "");
    table.check("content-length 0 and the end", &ended(&[(b"content-length", b"0")]), none).await;
    table.check("content-length 5 and the end", &ended(&[(b"content-length", b"5")]), MALFORMED).await;
    let parts = [headers(1, END_HEADERS, &[POST, S, P, A, (b"content-length", b"5")]), data(1, 0, b"hel")];
    let rest = [data(1, 0, b""), data(1, END_STREAM, b"lo")];
    table.check("in parts", &[parts.concat(), rest.concat()].concat(), length).await;
    let more = data(1, 0, b"lo, and more");
    table.check("longer in parts", &[parts.concat(), more, data(1, END_STREAM, b"")].concat(), MALFORMED).await;
    let padded = frame(DATA, END_STREAM | PADDED, 1, b"\x03hello\0\0\0");
    table.check("padded", &[headers(1, END_HEADERS, &[POST, S, P, A]), padded].concat(), chunked).await;
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_are_fields_and_the_end() {
    let mut table = Table::new().await;
    let chunked = Forwarded("POST / HTTP/1.1", "transfer-encoding: chunked", "hello");
    let cases: &[(&[Field<'_>], Expected)] = &[
        (&[(b"x", b"y")], chunked),
        (&[], chunked),
        // Dropped, and with them whatever they were meant to say.
        (&[(b":path", b"/x")], chunked),
        (&[(b":method", b"GET")], chunked),
        (&[(b":status", b"200")], chunked),
        (&[(b"x", b"y"), (b":authority", b"b")], MALFORMED),
        (&[(b"connection", b"close")], MALFORMED),
        (&[(b"transfer-encoding", b"chunked")], MALFORMED),
        (&[(b"x", b"a\r\ny: z")], Connection),
        (&[(b"X", b"y")], Connection),
        // Not passed on.
        (&[(b"content-length", b"3")], chunked),
        (&[(b"host", b"b")], chunked),
        (&[(b"x_forwarded_for", b"1.2.3.4")], chunked),
    ];
    let begin = [headers(1, END_HEADERS, &[POST, S, P, A]), data(1, 0, b"hello")].concat();
    for (fields, expected) in cases {
        table.check(&shown(fields), &[&begin[..], &headers(1, WHOLE, fields)].concat(), *expected).await;
    }
    let unended = headers(1, END_HEADERS, &[(b"x", b"y")]);
    table.check("trailers and no end", &[&begin[..], &unended].concat(), MALFORMED).await;
    let wire = [&begin[..], &headers(1, WHOLE, &[(b"x", b"y"), (b"x_real_ip", b"z"), (b"host", b"b")])].concat();
    let mut client = Wire::connect(table.stack.address("web")).await;
    client.send(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &wire].concat()).await;
    let mut received = Vec::new();
    eventually!({
        received.extend(table.origin.take().await);
        !received.is_empty()
    });
    assert_eq!(received[0].trailers, ["x: y"]);
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_out_of_place_end_the_connection_or_nothing() {
    let mut table = Table::new().await;
    let get = |stream| headers(stream, WHOLE, &[M, S, P, A]);
    let fields = block(&[M, S, P, A]);
    let (half, rest) = fields.split_at(fields.len() / 2);
    let begun = || frame(HEADERS, END_STREAM, 1, half);
    let continued = frame(CONTINUATION, END_HEADERS, 1, rest);
    let increment = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let setting = |id: u16, value: u32| frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    let open = || headers(1, END_HEADERS, &[POST, S, P, A]);
    let cases: Vec<(&str, Vec<u8>, Expected)> = vec![
        ("a good request", get(1), SENT),
        ("a head in two frames", [begun(), continued.clone()].concat(), SENT),
        ("frame of an unknown kind", frame(0x77, 0xff, 0, b"x"), Ignored),
        ("frame of an unknown kind on a stream", [frame(0x77, 0, 1, b"x"), get(1)].concat(), SENT),
        ("setting that nobody knows", setting(0x77, 1), Ignored),
        ("ping", frame(PING, 0, 0, b"12345678"), Ignored),
        ("answer to no ping", frame(PING, ACK, 0, b"12345678"), Ignored),
        // Streams that are none.
        ("DATA on stream 0", data(0, END_STREAM, b"x"), Connection),
        ("HEADERS on stream 0", get(0), Connection),
        ("HEADERS on an even stream", get(2), Connection),
        ("DATA on an idle stream", data(1, END_STREAM, b"x"), Connection),
        ("a stream below one that was used", [get(3), get(1)].concat(), Connection),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), Connection),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), Connection),
        ("WINDOW_UPDATE on an idle stream", increment(1, 1), Connection),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), Connection),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), Connection),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Connection),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 0]), Connection),
        (
            "PUSH_PROMISE of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &fields[..]].concat()),
            Connection,
        ),
        // Sizes.
        ("RST_STREAM of 3 bytes", [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), Connection),
        ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), Connection),
        ("SETTINGS answered with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), Connection),
        ("PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), Connection),
        ("GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, &[0; 7]), Connection),
        ("WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Connection),
        ("frame over the limit", frame(DATA, 0, 1, &[0; 16_385]), Connection),
        ("HEADERS over the limit", frame(HEADERS, WHOLE, 1, &[0; 16_385]), Connection),
        ("unknown frame over the limit", frame(0x77, 0, 0, &[0; 16_385]), Connection),
        // Settings.
        ("push of 2", setting(2, 2), Connection),
        ("window beyond its size", setting(4, 1 << 31), Connection),
        ("frame size below 16384", setting(5, 1), Connection),
        ("frame size beyond 24 bits", setting(5, 1 << 24), Connection),
        // Windows.
        ("window of the connection grows by 0", increment(0, 0), Connection),
        ("window of the connection overflows", increment(0, 0x7fff_ffff), Connection),
        ("window of a stream grows by 0", [open(), increment(1, 0)].concat(), Connection),
        ("window of a stream overflows", [open(), increment(1, 0x7fff_ffff)].concat(), Stream(FLOW_CONTROL)),
        // A head that is not one.
        ("CONTINUATION of nothing", continued.clone(), Connection),
        ("CONTINUATION of a head that is whole", [get(1), continued.clone()].concat(), Connection),
        ("PING amid a head", [begun(), frame(PING, 0, 0, &[0; 8]), continued.clone()].concat(), Connection),
        ("DATA amid a head", [begun(), data(1, 0, b"x"), continued.clone()].concat(), Connection),
        ("unknown frame amid a head", [begun(), frame(0x77, 0, 1, b"x"), continued.clone()].concat(), Connection),
        ("another head amid a head", [begun(), get(3)].concat(), Connection),
        ("CONTINUATION of another stream", [begun(), frame(CONTINUATION, END_HEADERS, 3, rest)].concat(), Connection),
        (
            "a stream that depends on itself",
            frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 0], &fields[..]].concat()),
            MALFORMED,
        ),
        ("PRIORITY of a stream on itself", frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]), MALFORMED),
        // Padding.
        (
            "DATA that is padding and more",
            [open(), frame(DATA, END_STREAM | PADDED, 1, b"\xffhello")].concat(),
            Connection,
        ),
        (
            "DATA without the length of its padding",
            [open(), frame(DATA, END_STREAM | PADDED, 1, b"")].concat(),
            Connection,
        ),
        (
            "HEADERS that are padding and more",
            frame(HEADERS, WHOLE | PADDED, 1, &[&[0xff], &fields[..]].concat()),
            Connection,
        ),
        ("HEADERS without the length of their padding", frame(HEADERS, WHOLE | PADDED, 1, b""), Connection),
        // HPACK.
        ("index 0", frame(HEADERS, WHOLE, 1, b"\x80"), Connection),
        ("index beyond the table", frame(HEADERS, WHOLE, 1, b"\xff\x7f"), Connection),
        ("name beyond the table", frame(HEADERS, WHOLE, 1, b"\x7f\x7f\x01x"), Connection),
        ("text that breaks off", frame(HEADERS, WHOLE, 1, b"\0\x05:met"), Connection),
        ("number without an end", frame(HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff\xff\xff"), Connection),
        ("text that is not Huffman's", frame(HEADERS, WHOLE, 1, b"\0\x84\xff\xff\xff\xff\0"), Connection),
        (
            "table larger than agreed",
            frame(HEADERS, WHOLE, 1, &[b"\x3f\xff\xff\x7f", &fields[..]].concat()),
            Connection,
        ),
        // More behind the end.
        ("DATA behind the end", [get(1), data(1, END_STREAM, b"GET /smuggled HTTP/1.1\r\n\r\n")].concat(), Connection),
        ("a second head behind the end", [get(1), get(1)].concat(), Connection),
        ("RST_STREAM before the body", [open(), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat(), Ignored),
    ];
    for (name, bytes, expected) in cases {
        table.check(name, &bytes, expected).await;
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_begins_in_another_way_is_closed() {
    let mut table = Table::new().await;
    let get = headers(1, WHOLE, &[M, S, P, A]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("another end of the preface", [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &get[..]].concat()),
        ("a preface with fields", [b"PRI * HTTP/2.0\r\nhost: a\r\n\r\nSM\r\n\r\n", &get[..]].concat()),
        ("another version", [b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", &get[..]].concat()),
        ("settings without a preface", [&frame(SETTINGS, 0, 0, b"")[..], &get].concat()),
        ("the preface of a request", [b"GET / HTTP/2.0\r\n\r\nSM\r\n\r\n", &get[..]].concat()),
    ];
    for (name, bytes) in cases {
        let mut wire = Wire::connect(table.stack.address("web")).await;
        wire.send(&bytes).await;
        while wire.next().await.is_some() {}
        eventually!(table.origin.open() == 0);
        table.findings.note(name, &table.origin.take().await.len(), &0);
        assert_eq!(table.stack.get("/").await.text(), "good", "{name}");
        table.origin.take().await;
    }
    table.findings.end();
}

/// An endpoint that reads a request and sends these frames as its answer, on every connection.
async fn endpoint(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut wire = Wire::over(stream);
                wire.skip(PREFACE.len()).await;
                wire.send(&frame(SETTINGS, 0, 0, b"")).await;
                while wire.next().await.is_some_and(|frame| frame.kind != HEADERS) {}
                wire.send(&answer).await;
                // Until the other side has had enough; a case that is no end by itself would wait here.
                while wire.next().await.is_some_and(|frame| frame.kind != RST_STREAM && frame.kind != GOAWAY) {}
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_cannot_split_or_stretch_its_answer() {
    const OK: Field<'static> = (b":status", b"200");
    let status = |value| headers(1, WHOLE, &[(b":status", value)]);
    let with = |field| headers(1, WHOLE, &[OK, field]);
    let body = |fields: &[Field<'_>], bytes| {
        [headers(1, END_HEADERS, &[&[OK], fields].concat()), data(1, END_STREAM, bytes)].concat()
    };
    let bad = "502 upstream_invalid";
    let reset = "502 upstream_reset";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a good answer", body(&[(b"content-length", b"4")], b"good"), "200 good"),
        ("no status", headers(1, WHOLE, &[(b"x", b"y")]), reset),
        ("two statuses", with(OK), reset),
        ("status behind a field", headers(1, WHOLE, &[(b"x", b"y"), OK]), reset),
        ("status of two digits", status(b"20"), reset),
        ("status of four digits", status(b"2000"), reset),
        ("status that is text", status(b"2x0"), reset),
        ("status with a line", status(b"200\r\nx: y"), reset),
        ("a request for an answer", headers(1, WHOLE, &[M, S, P, A]), reset),
        ("upper case", with((b"X", b"y")), reset),
        ("a line in a value", with((b"x", b"y\r\nset-cookie: evil=1")), reset),
        ("a bare LF in a value", with((b"x", b"y\nset-cookie: evil=1")), reset),
        ("NUL in a value", with((b"x", b"y\0")), reset),
        ("a line in a name", with((b"x: y\r\nset-cookie", b"evil=1")), reset),
        ("connection", with((b"connection", b"close")), reset),
        ("transfer-encoding", body(&[(b"transfer-encoding", b"chunked")], b"0\r\n\r\nevil"), reset),
        ("upgrade", with((b"upgrade", b"h2c")), reset),
        ("two lengths", body(&[(b"content-length", b"4"), (b"content-length", b"4")], b"evil"), bad),
        ("length with a sign", body(&[(b"content-length", b"+4")], b"evil"), reset),
        ("shorter than its length", body(&[(b"content-length", b"9")], b"evil"), "broken"),
        ("longer than its length", body(&[(b"content-length", b"2")], b"evil"), "broken"),
        ("a length and no body", with((b"content-length", b"4")), reset),
        ("DATA before HEADERS", data(1, END_STREAM, b"evil"), reset),
        ("another stream", headers(3, WHOLE, &[OK]), reset),
        ("an even stream", headers(2, WHOLE, &[OK]), reset),
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &block(&[M, S, P, A])[..]].concat()), reset),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &block(&[OK])), reset),
        ("index beyond the table", frame(HEADERS, WHOLE, 1, b"\xff\x7f"), reset),
        ("RST_STREAM", frame(RST_STREAM, 0, 1, &[0, 0, 0, 2]), reset),
        ("GOAWAY", frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 1]), reset),
        ("HTTP/1.1", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".to_vec(), reset),
        (
            "a path in trailers",
            [headers(1, END_HEADERS, &[OK]), data(1, 0, b"evil"), headers(1, WHOLE, &[(b":path", b"/")])].concat(),
            "200 evil",
        ),
        (
            "a status in trailers",
            [headers(1, END_HEADERS, &[OK]), data(1, 0, b"evil"), headers(1, WHOLE, &[OK])].concat(),
            "200 evil",
        ),
    ];
    let mut findings = Findings::default();
    for (name, answer, expected) in cases {
        let config = CONFIG.replace("{origin}", &endpoint(answer).await.to_string());
        let good = Origin::start().await;
        let config = config
            .replace("[routes.all]", "[routes.good]\n    path = \"/good\"\n    service = \"good\"\n    [routes.all]")
            .replace("pool = { max_idle = 0 }", "protocol = \"h2c\"\n    timeouts = { response = \"3s\" }")
            + &format!("[services.good]\nendpoints = [{{ name = \"good\", url = \"http://{}\" }}]\n", good.address());
        let stack = Stack::start(&config).await;
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /good HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answers = raw::answers(&raw::exchange(stack.address("web"), get).await, &["GET"]);
        let first = &answers[0];
        let reason = first.field("x-waypost-reason");
        let seen = match (first.whole, reason) {
            (false, _) => "broken".to_owned(),
            (true, "") => format!("{} {}", first.status(), first.body),
            (true, reason) => format!("{} {reason}", first.status()),
        };
        let behind = answers.get(1).map(|answer| &*answer.body);
        let good = if expected == "broken" { None } else { Some("good") };
        findings.note(name, &(&*seen, behind), &(expected, good));
        assert_eq!(client::send(stack.address("web"), client::get("/good")).await.unwrap().text(), "good");
    }
    findings.end();
}

/// An endpoint that answers with the names of the trailers that it got, and with trailers of its own.
async fn trailing(trailers: HeaderMap) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let trailers = trailers.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let trailers = trailers.clone();
                    tokio::spawn(async move {
                        let mut body = request.into_body();
                        while body.data().await.is_some() {}
                        let got = body.trailers().await.unwrap().unwrap_or_default();
                        let names = got.keys().map(HeaderName::as_str).collect::<Vec<_>>().join(" ");
                        let mut answer = respond.send_response(http::Response::new(()), false).unwrap();
                        answer.send_data(names.into(), false).unwrap();
                        answer.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_are_sifted_between_http2_and_http2_too() {
    let names = ["x-sum", "host", "authorization", "cookie", "set-cookie", "x-forwarded-for", "x_real_ip", "forwarded"];
    let value = http::HeaderValue::from_static("1");
    let trailers: HeaderMap = names.iter().map(|name| (HeaderName::from_static(name), value.clone())).collect();
    let address = trailing(trailers.clone()).await;
    let config =
        CONFIG.replace("{origin}", &address.to_string()).replace("pool = { max_idle = 0 }", "protocol = \"h2c\"");
    let stack = Stack::start(&config).await;
    let mut connection = connection::Connection::http2(stack.address("web")).await;
    let body = Full::new(Bytes::from("hello")).with_trailers(async move { Some(Ok(trailers)) });
    let request = http::Request::post("http://a/").header("te", "trailers").body(body).unwrap();
    let answer = connection.open(request).await.unwrap().into_body().collect().await.unwrap();
    let came = answer.trailers().unwrap().keys().map(HeaderName::as_str).collect::<Vec<_>>();
    assert_eq!(came, ["x-sum"], "to the client");
    assert_eq!(answer.to_bytes(), "x-sum", "to the endpoint");
}
