//! What an endpoint may try over HTTP/1.1: the client gets a 502 that says why, one message that cannot be read in two
//! ways, or a transfer that breaks off where it did. Behind every case comes another request on the same client
//! connection: its answer is its own, whatever the endpoint had left to say.

use http::Request;
use http_body_util::BodyExt;
use waypost_tests::connection::{Connection, empty};
use waypost_tests::origin::{BEHIND, Origin, Then};
use waypost_tests::raw::{self, Answer, Raw};
use waypost_tests::{Findings, Stack, client, eventually};

/// Connections to the endpoint are kept: what is left on one could reach the next client.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [routes.all]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "origin", url = "http://{origin}" }]
"#;

/// What the client gets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    /// A 502 with this reason.
    Refused(&'static str),
    /// This status and this body, whole.
    Passed(u16, &'static str),
    /// This status and the beginning of a body that breaks off.
    Broken(u16, &'static str),
}

use Expected::{Broken, Passed, Refused};
use Then::{Close, Reset, Stay};

/// What is no answer.
const BAD: Expected = Refused("upstream_invalid");

/// The end of the connection instead of an answer.
const GONE: Expected = Refused("upstream_reset");

/// A body of two bytes and its length.
const OK: Expected = Passed(200, "ok");

type Case = (Vec<u8>, Then, Expected);

/// Status lines, with a good rest.
const STATUS_LINES: &[(&[u8], Expected)] = &[
    (b"HTTP/1.1 200 OK", OK),
    (b"HTTP/1.1 200 ", OK),
    (b"HTTP/1.1 200", OK),
    (b"HTTP/1.1 200 \xe9\xff", OK),
    (b"HTTP/1.1 200 HTTP/1.1 500 Not OK", OK),
    (b"HTTP/1.1 299 Very OK", Passed(299, "ok")),
    (b"HTTP/1.1 999 Beyond", Passed(999, "ok")),
    (b"HTTP/1.0 200 OK", OK),
    (b"", BAD),
    (b"HTTP/1.1", BAD),
    (b"HTTP/1.1 ", BAD),
    (b"HTTP/1.1 20", BAD),
    (b"HTTP/1.1 2000 OK", BAD),
    (b"HTTP/1.1 0200 OK", BAD),
    (b"HTTP/1.1 099 OK", BAD),
    (b"HTTP/1.1 000 OK", BAD),
    (b"HTTP/1.1 -20 OK", BAD),
    (b"HTTP/1.1 2x0 OK", BAD),
    (b"HTTP/1.1 200OK", BAD),
    (b"HTTP/1.1  200 OK", BAD),
    (b"HTTP/1.1\t200 OK", BAD),
    (b"HTTP/1.1 200\tOK", BAD),
    (b"HTTP/1.2 200 OK", BAD),
    (b"HTTP/2 200 OK", BAD),
    (b"HTTP/2.0 200 OK", BAD),
    (b"HTTP/0.9 200 OK", BAD),
    (b"http/1.1 200 OK", BAD),
    (b" HTTP/1.1 200 OK", BAD),
    (b"\nHTTP/1.1 200 OK", BAD),
    (b"\rHTTP/1.1 200 OK", BAD),
    (b"HTTP/1.1 200 O\0K", BAD),
    (b"HTTP/1.1 200 O\x7fK", BAD),
    (b"HTTP/1.1 200 O\rK", BAD),
    (b"HTTP/1.1 200 OK\r", BAD),
    (b"HTTP/1.1 200 OK\nx: y", BAD),
    (b"ICY 200 OK", BAD),
    (b"200 OK", BAD),
    (b"GET / HTTP/1.1", BAD),
    (b"SSH-2.0-x", BAD),
    (b"<html>", BAD),
    (b"\x15\x03\x03\0\x02\x02\x16", BAD),
    (b"\0\0\0\x04\0\0\0\0\0", BAD),
];

/// Field lines of a 200 that has `content-length: 2` already.
const FIELDS: &[(&[u8], Expected)] = &[
    (b"x: y", OK),
    (b"x:", OK),
    (b"x: \xe9", OK),
    (b"connection: content-length", OK),
    (b"connection: close", OK),
    (b"x : y", BAD),
    (b" x: y", BAD),
    (b"\tx: y", BAD),
    (b": y", BAD),
    (b"x", BAD),
    (b"x y: z", BAD),
    (b"x\0: y", BAD),
    (b"x\xe9: y", BAD),
    (b"x(: y", BAD),
    (b"x: a\0b", BAD),
    (b"x: a\x01b", BAD),
    (b"x: a\x7fb", BAD),
    (b"x: a\r\n b", BAD),
    (b"x: a\r\n\tb", BAD),
    // Injected: what an endpoint copied from a request without looking.
    (b"x: a\rset-cookie: evil=1", BAD),
    (b"x: a\nset-cookie: evil=1", BAD),
    (b"x: a\r\r\nset-cookie: evil=1", BAD),
    (b"x: a\n\nHTTP/1.1 200 OK", BAD),
    (b"x: a\r\rHTTP/1.1 200 OK", BAD),
    (b"x: a\0\r\nset-cookie: evil=1", BAD),
    (b"x: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Passed(200, "HT")),
];

/// Field lines that frame a body of which `ok` is sent before the connection ends.
const LENGTHS: &[(&[u8], Expected)] = &[
    (b"content-length: 2", OK),
    (b"Content-Length:2", OK),
    (b"content-length: 02", OK),
    (b"x: y", OK),
    (b"content-length: 1", Passed(200, "o")),
    (b"content-length: 0", Passed(200, "")),
    (b"content-length: 3", Broken(200, "ok")),
    (b"content-length: 18446744073709551615", Broken(200, "ok")),
    (b"content-length: 18446744073709551616", BAD),
    (b"content-length: +2", BAD),
    (b"content-length: -2", BAD),
    (b"content-length: 0x2", BAD),
    (b"content-length: 2 2", BAD),
    (b"content-length: 2,2", BAD),
    (b"content-length: 2, 3", BAD),
    (b"content-length: 2;", BAD),
    (b"content-length: two", BAD),
    (b"content-length:", BAD),
    (b"content-length: 2\x0b", BAD),
    (b"content-length : 2", BAD),
    (b"content-length: 2\r\n 3", BAD),
    (b"content-length: 2\r\ncontent-length: 2", BAD),
    (b"content-length: 2\r\nContent-Length: 3", BAD),
    (b"content-length: 2\r\ntransfer-encoding: chunked", BAD),
    (b"transfer-encoding: chunked\r\ncontent-length: 2", BAD),
    (b"transfer-encoding: gzip", BAD),
    (b"transfer-encoding: gzip, chunked", BAD),
    (b"transfer-encoding: chunked, gzip", BAD),
    (b"transfer-encoding: chunked, chunked", BAD),
    (b"transfer-encoding: identity", BAD),
    (b"transfer-encoding: xchunked", BAD),
    (b"transfer-encoding: chunked;x", BAD),
    (b"transfer-encoding:", BAD),
    (b"transfer-encoding: \x0bchunked", BAD),
    (b"transfer-encoding : chunked", BAD),
    (b"transfer-encoding: chunked\r\ntransfer-encoding: chunked", BAD),
    (b"transfer-encoding: chunked\r\ntransfer-encoding: identity", BAD),
];

/// Bodies in chunks; the connection ends behind each.
const CHUNKS: &[(&[u8], Expected)] = &[
    (b"5\r\nhello\r\n0\r\n\r\n", Passed(200, "hello")),
    (b"0\r\n\r\n", Passed(200, "")),
    (b"5;x=y\r\nhello\r\n0\r\n\r\n", Passed(200, "hello")),
    (b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Passed(200, "hello")),
    (b"", Broken(200, "")),
    (b"5", Broken(200, "")),
    (b"5\r\n", Broken(200, "")),
    (b"5\r\nhel", Broken(200, "hel")),
    (b"5\r\nhello", Broken(200, "hello")),
    (b"5\r\nhello\r\n", Broken(200, "hello")),
    (b"5\r\nhello\r\n0", Broken(200, "hello")),
    (b"5\r\nhello\r\n0\r\n", Broken(200, "hello")),
    (b"5\r\nhello\r\n0\r\nx: y\r\n", Broken(200, "hello")),
    (b"x\r\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b"-5\r\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b"+5\r\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b"0x5\r\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b" 5\r\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b"5 5\r\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b"5\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b"5;x\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b"10000000000000005\r\nhello\r\n0\r\n\r\n", Broken(200, "")),
    (b"5\r\nhello\n0\r\n\r\n", Broken(200, "hello")),
    (b"5\r\nhello0\r\n\r\n", Broken(200, "hello")),
    (b"4\r\nhello\r\n0\r\n\r\n", Broken(200, "hell")),
    (b"5\r\nhello\r\n0\n\n", Broken(200, "hello")),
    (b"5\r\nhello\r\n0\r\nx : y\r\n\r\n", Broken(200, "hello")),
    (b"5\r\nhello\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n", Broken(200, "hello")),
];

/// Whole answers, or what is sent instead of one.
const ANSWERS: &[(&[u8], Then, Expected)] = &[
    // Interim responses.
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Stay, OK),
    (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Stay, OK),
    (b"HTTP/1.1 199 X\r\n\r\nHTTP/1.1 102 Y\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Stay, OK),
    (b"HTTP/1.1 100 X\r\ncontent-length: 9\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Stay, OK),
    (b"HTTP/1.1 100 Continue\r\nx : y\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Stay, BAD),
    (b"HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Stay, BAD),
    (b"HTTP/1.1 100 Continue\r\n\r\n", Close, GONE),
    (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", Stay, BAD),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Stay, BAD),
    // More than was asked for.
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Stay, OK),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\r\n", Stay, OK),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\0", Stay, OK),
    (b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil", Stay, Passed(204, "")),
    (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", Stay, Passed(204, "")),
    (b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Stay, Passed(204, "")),
    (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nevil", Stay, Passed(304, "")),
    (b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", Stay, Passed(304, "")),
    (b"HTTP/1.1 204 No Content\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", Stay, BAD),
    // HTTP/1.0.
    (b"HTTP/1.0 200 OK\r\n\r\nok", Close, OK),
    (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", Stay, OK),
    (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nok", Close, OK),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nokevil", Stay, OK),
    (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Stay, BAD),
    // Nothing.
    (b"", Close, GONE),
    (b"", Reset, GONE),
    (b"\r\n", Close, GONE),
];

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (line, expected) in STATUS_LINES {
        cases.push(([line, &b"\r\ncontent-length: 2\r\n\r\nok"[..]].concat(), Stay, *expected));
    }
    for (lines, expected) in FIELDS {
        let answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", *lines, b"\r\n\r\nok"].concat();
        cases.push((answer, Stay, *expected));
    }
    for (lines, expected) in LENGTHS {
        cases.push(([b"HTTP/1.1 200 OK\r\n", *lines, b"\r\n\r\nok"].concat(), Close, *expected));
    }
    for (chunks, expected) in CHUNKS {
        let head = &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..];
        cases.push(([head, chunks].concat(), Close, *expected));
    }
    cases.extend(ANSWERS.iter().map(|(answer, then, expected)| (answer.to_vec(), *then, *expected)));
    let many = |line: &str, times: usize| {
        format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nok", line.repeat(times)).into_bytes()
    };
    cases.push((many("x: y\r\n", 200), Stay, OK));
    cases.push((many("x: y\r\n", 300), Stay, BAD));
    cases.push((many(&format!("x: {}\r\n", "y".repeat(300 * 1024)), 1), Stay, BAD));
    cases.push(("HTTP/1.1 100 Continue\r\n\r\n".repeat(100).into_bytes(), Stay, BAD));
    cases.push((format!("HTTP/1.1 200 OK\r\n{}", "x".repeat(300 * 1024)).into_bytes(), Stay, BAD));
    cases
}

/// Waypost before an origin, and what went wrong so far.
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

    /// Asks for the case and for something else behind it, over one connection.
    async fn ask(&self, request: &str) -> Vec<Answer> {
        let text = raw::exchange(self.stack.address("web"), [request, BEHIND].concat()).await;
        raw::answers(&text, &[request.split(' ').next().unwrap_or_default(), "GET"])
    }

    async fn check(&mut self, request: &str, (answer, then, expected): Case) {
        self.origin.plays(&answer, then).await;
        let mut answers = self.ask(request).await.into_iter();
        let seen = answers.next().map(|answer| outcome(&answer));
        let behind: Vec<_> = answers.map(|answer| (answer.status(), answer.body)).collect();
        let asked = self.origin.take().await.len();
        let alone = matches!(expected, Broken(..));
        // A connection that had served ended without a byte of an answer: the origin is asked again, over a new one.
        let again = answer.is_empty() && then != Stay;
        let (good, asks) = if alone { (vec![], 1) } else { (vec![(200, "good".to_owned())], 2 + usize::from(again)) };
        let expected = (Some(told(expected)), good, asks);
        self.findings.note(&answer, &(seen, behind, asked), &expected);
    }
}

/// Status, reason, body (our own are not looked at), and whether it is whole.
type Told = (u16, String, String, bool);

fn told(expected: Expected) -> Told {
    match expected {
        Refused(reason) => (502, reason.to_owned(), String::new(), true),
        Passed(status, body) => (status, String::new(), body.to_owned(), true),
        Broken(status, body) => (status, String::new(), body.to_owned(), false),
    }
}

fn outcome(answer: &Answer) -> Told {
    let reason = answer.field("x-waypost-reason").to_owned();
    let body = if reason.is_empty() { answer.body.clone() } else { String::new() };
    (answer.status(), reason, body, answer.whole)
}

const GET: &str = "GET /case HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn answer_is_one_message_or_none() {
    let mut table = Table::new().await;
    for case in cases() {
        table.check(GET, case).await;
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_leaves_at_any_byte_leaves_no_whole_message() {
    let mut table = Table::new().await;
    let plain = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for whole in [plain, chunked] {
        let head = whole.find("\r\n\r\n").unwrap() + 4;
        for end in 0..=whole.len() {
            table.origin.plays(&whole[..end], Close).await;
            let answers = table.ask(GET).await;
            table.origin.take().await;
            let seen = answers.first().map(|answer| (outcome(answer).0, outcome(answer).1, answer.whole));
            let expected = match end {
                _ if end < head => (502, "upstream_reset", true),
                _ => (200, "", end == whole.len()),
            };
            table.findings.note(
                &whole.as_bytes()[..end],
                &seen,
                &Some((expected.0, expected.1.to_owned(), expected.2)),
            );
            let begun = answers.first().is_some_and(|answer| end < head || "hello".starts_with(&answer.body));
            table.findings.note(&whole.as_bytes()[..end], &begun, &true);
        }
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_to_head_has_no_body_whatever_comes() {
    let mut table = Table::new().await;
    let cases: &[(&[u8], Expected)] = &[
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", Passed(200, "")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Passed(200, "")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", Passed(200, "")),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", Passed(200, "")),
        (b"HTTP/1.1 404 Not Found\r\n\r\nevil", Passed(404, "")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", BAD),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n", BAD),
    ];
    for (answer, expected) in cases {
        table.check("HEAD /case HTTP/1.1\r\nhost: a\r\n\r\n", (answer.to_vec(), Stay, *expected)).await;
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_client_is_told_the_same_and_keeps_its_connection() {
    let mut table = Table::new().await;
    let mut connection = Connection::http2(table.stack.address("web")).await;
    for (answer, then, expected) in cases() {
        table.origin.plays(&answer, then).await;
        let request = Request::get("http://a/case").body(empty()).unwrap();
        let seen = match connection.send(request).await {
            Ok(reply) if reply.reason().is_empty() => format!("{} {}", reply.status.as_u16(), reply.text()),
            Ok(reply) => format!("{} {}", reply.status.as_u16(), reply.reason()),
            // Of what broke off, the head may get lost, too.
            Err(_) => "broken".to_owned(),
        };
        let expected = match expected {
            Passed(status, body) => format!("{status} {body}"),
            Refused(reason) => format!("502 {reason}"),
            Broken(..) => "broken".to_owned(),
        };
        table.findings.note(&answer, &seen, &expected);
        let behind = connection.send(client::get("/behind")).await.unwrap();
        table.findings.note(&answer, &behind.text(), &"good");
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_idle_endpoint_says_is_nobodys_answer() {
    let mut table = Table::new().await;
    table.origin.plays("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Stay).await;
    for late in ["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", "HTTP/1.1 100 Continue\r\n\r\n", "\r\n", "x"] {
        let mut client = Raw::connect(table.stack.address("web")).await;
        client.send(GET).await;
        assert_eq!(raw::status(&client.head().await), 200);
        assert_eq!(client.body(2).await, "ok");
        let accepted = table.origin.accepted();
        table.origin.adds(late.as_bytes()).await;
        client.send(BEHIND).await;
        let rest = client.rest().await;
        table.findings.note(late.as_bytes(), &rest.ends_with("\r\n\r\ngood"), &true);
        table.findings.note(late.as_bytes(), &table.origin.accepted(), &(accepted + 1));
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_body_speaks_for_the_answer() {
    let mut table = Table::new().await;
    let dropped = [
        "content-length: 3",
        "transfer-encoding: chunked",
        "connection: close",
        "keep-alive: timeout=1",
        "upgrade: h2c",
        "trailer: x",
        "set-cookie: evil=1",
        "host: evil",
        "authorization: evil",
        "proxy-authenticate: Basic",
    ];
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n";
    let request = "GET /case HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
    let address = table.stack.address("web");
    for line in dropped {
        table.origin.plays(format!("{head}x-sum: 1\r\n{line}\r\n\r\n"), Stay).await;
        let text = raw::exchange(address, request).await;
        let (_, trailers) = text.split_once("hello\r\n0\r\n").expect("the body is chunked");
        table.findings.note(line.as_bytes(), &trailers, &"x-sum: 1\r\n\r\n");
        let request = Request::get("http://a/case").header("te", "trailers").body(empty()).unwrap();
        let body = Connection::http2(address).await.open(request).await.unwrap().into_body().collect().await.unwrap();
        table.findings.note(line.as_bytes(), &body.trailers().map(http::HeaderMap::len), &Some(1));
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_the_endpoints_connection_stay_there() {
    let mut table = Table::new().await;
    let cases = [
        ("connection: x\r\nx: 1", "x", ""),
        ("Connection: X\r\nx: 1", "x", ""),
        ("x: 1\r\nconnection: y, x", "x", ""),
        ("connection: y\r\nconnection: x\r\nx: 1", "x", ""),
        ("connection: keep-alive\r\nkeep-alive: timeout=1", "keep-alive", ""),
        ("upgrade: h2c", "upgrade", ""),
        ("connection: upgrade\r\nupgrade: h2c", "upgrade", ""),
        ("proxy-connection: close", "proxy-connection", ""),
        ("proxy-authenticate: Basic", "proxy-authenticate", ""),
        ("te: trailers", "te", ""),
        ("connection: content-length", "content-length", "2"),
        ("connection: content-length, close", "content-length", "2"),
        ("connection: close", "connection", ""),
    ];
    for (lines, name, expected) in cases {
        table.origin.plays(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{lines}\r\n\r\nok"), Stay).await;
        let answers = table.ask(GET).await;
        table.findings.note(lines.as_bytes(), &answers[0].field(name), &expected);
        table.findings.note(
            lines.as_bytes(),
            &answers.iter().map(|answer| &*answer.body).collect::<Vec<_>>(),
            &vec!["ok", "good"],
        );
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn http10_client_is_not_told_that_a_part_is_the_whole() {
    let mut table = Table::new().await;
    for chunks in ["5\r\nhello\r\n", "5\r\nhello\r\nx\r\n", "5\r\nhello\r\n5\r\nhel"] {
        table.origin.plays(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"), Close).await;
        let mut client = Raw::connect(table.stack.address("web")).await;
        client.send("GET /case HTTP/1.0\r\nhost: a\r\n\r\n").await;
        // Without a length and without chunks, a reset is all that can tell.
        table.findings.note(chunks, &client.is_reset().await, &true);
    }
    eventually!(table.stack.metric("waypost_requests_in_flight{") == 0.0);
    table.findings.end();
}
