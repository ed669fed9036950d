//! What a client may try over HTTP/1.1: each case is refused, or reaches the endpoint in one form that cannot be read in
//! two ways. Behind every case comes a good request on the same connection: it must not be served where the case was
//! refused as ambiguous, and must be seen as a request of its own where it was not.

use waypost_tests::origin::{BEHIND, Origin, Received, Then};
use waypost_tests::raw::Answer;
use waypost_tests::{Findings, Stack, eventually, raw};

/// Connections to the endpoint are not kept, so that whatever was sent there has come when none is open.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    limits = { header_bytes = "8KiB", headers = 20, uri_bytes = "1KiB" }
    [routes.all]
    service = "shop"
    [services.shop]
    pool = { max_idle = 0 }
    endpoints = [{ name = "origin", url = "http://{origin}" }]
"#;

/// `hello` in chunks.
const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

/// What becomes of a case.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// A reply of ours with this status and reason ends the connection; the endpoint sees no whole request.
    Refused(u16, &'static str),
    /// A reply of ours; the request behind it is served.
    Answered(u16, &'static str),
    /// The endpoint's answer, after it saw this request line, the fields that frame the body, and the body.
    Forwarded(&'static str, &'static str, &'static str),
    /// The same, and the connection ends.
    Last(&'static str, &'static str, &'static str),
}

use Expected::{Answered, Forwarded, Last, Refused};

/// Refused as malformed.
const BAD: Expected = Refused(400, "bad_request");

/// Refused for its transfer coding.
const CODING: Expected = Refused(501, "unsupported_coding");

/// `GET /` without a body.
const GET: Expected = Forwarded("GET / HTTP/1.1", "", "");

/// `POST /` with `hello` in chunks.
const CHUNKED: Expected = Forwarded("POST / HTTP/1.1", "transfer-encoding: chunked", "hello");

/// `POST /` with `hello` and its length.
const LENGTH: Expected = Forwarded("POST / HTTP/1.1", "content-length: 5", "hello");

/// What was seen: of each answer its status and reason, of each request at the endpoint the facts.
#[derive(Debug, PartialEq)]
struct Outcome {
    answers: Vec<(u16, String)>,
    requests: Vec<[String; 3]>,
}

impl Expected {
    fn outcome(self) -> Outcome {
        let ours = |status, reason: &str| (status, reason.to_owned());
        let good = || ours(200, "");
        let seen = |line: &str, framing: &str, body: &str| [line.to_owned(), framing.to_owned(), body.to_owned()];
        let behind = || seen("GET /behind HTTP/1.1", "", "");
        let (answers, requests) = match self {
            Refused(status, reason) => (vec![ours(status, reason)], vec![]),
            Answered(status, reason) => (vec![ours(status, reason), good()], vec![behind()]),
            Forwarded(line, framing, body) => (vec![good(), good()], vec![seen(line, framing, body), behind()]),
            Last(line, framing, body) => (vec![good()], vec![seen(line, framing, body)]),
        };
        Outcome { answers, requests }
    }
}

/// Waypost before an origin, and what went wrong so far.
struct Table {
    stack: Stack,
    origin: Origin,
    findings: Findings,
}

impl Table {
    async fn new() -> Table {
        Table::with(CONFIG).await
    }

    async fn with(config: &str) -> Table {
        let origin = Origin::start().await;
        let stack = Stack::start(&config.replace("{origin}", &origin.address().to_string())).await;
        Table { stack, origin, findings: Findings::default() }
    }

    /// Sends a case and the good request behind it.
    async fn send(&self, bytes: &[u8]) -> (Vec<Answer>, Vec<Received>) {
        let text = raw::exchange(self.stack.address("web"), [bytes, BEHIND.as_bytes()].concat()).await;
        eventually!(self.origin.open() == 0);
        let method = if bytes.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        (raw::answers(&text, &[method, "GET"]), self.origin.take().await)
    }

    async fn check(&mut self, bytes: impl AsRef<[u8]>, expected: Expected) {
        let (answers, requests) = self.send(bytes.as_ref()).await;
        let answers = answers.iter().map(|answer| (answer.status(), answer.field("x-waypost-reason").to_owned()));
        let requests = requests.into_iter().map(|request| [request.line, request.framing, request.body]);
        let outcome = Outcome { answers: answers.collect(), requests: requests.collect() };
        self.findings.note(bytes.as_ref(), &outcome, &expected.outcome());
    }
}

/// This request line without a body.
const fn get(line: &'static str) -> Expected {
    Forwarded(line, "", "")
}

/// Request lines, before a good rest.
const REQUEST_LINES: &[(&[u8], Expected)] = &[
    // Whitespace.
    (b"GET  / HTTP/1.1", BAD),
    (b"GET /  HTTP/1.1", BAD),
    (b"GET / HTTP/1.1 ", BAD),
    (b" GET / HTTP/1.1", BAD),
    (b"GET\t/ HTTP/1.1", BAD),
    (b"GET /\tHTTP/1.1", BAD),
    (b"GET / HTTP/1.1\t", BAD),
    (b"GET /a b HTTP/1.1", BAD),
    (b"GET/ HTTP/1.1", BAD),
    // Version.
    (b"GET", BAD),
    (b"GET /", BAD),
    (b"GET / ", BAD),
    (b"GET / http/1.1", BAD),
    (b"GET / Http/1.1", BAD),
    (b"GET / HTTP/0.9", BAD),
    (b"GET / HTTP/1.2", BAD),
    (b"GET / HTTP/2.0", BAD),
    (b"GET / HTTP/2", BAD),
    (b"GET / HTTP/1", BAD),
    (b"GET / HTTP/1.", BAD),
    (b"GET / HTTP/1.10", BAD),
    (b"GET / HTTP/01.1", BAD),
    (b"GET / HTTP/1.1.1", BAD),
    (b"GET / HTTP /1.1", BAD),
    (b"GET / HTTP/1,1", BAD),
    (b"GET / HTTPS/1.1", BAD),
    (b"GET / ICY/1.1", BAD),
    (b"GET / HTTP/1.1\0", BAD),
    (b"GET / HTTP/1.0", Last("GET / HTTP/1.1", "", "")),
    // Method.
    (b"/ HTTP/1.1", BAD),
    (b"G\0T / HTTP/1.1", BAD),
    (b"GE\x7f / HTTP/1.1", BAD),
    (b"G\xc3\x89T / HTTP/1.1", BAD),
    (b"GET: / HTTP/1.1", BAD),
    (b"G@T / HTTP/1.1", BAD),
    (b"\"GET\" / HTTP/1.1", BAD),
    (b"\xef\xbb\xbfGET / HTTP/1.1", BAD),
    (b"get / HTTP/1.1", get("get / HTTP/1.1")),
    (b"PROPFIND / HTTP/1.1", get("PROPFIND / HTTP/1.1")),
    (b"PRI * HTTP/1.1", BAD),
    (b"TRACE / HTTP/1.1", Answered(405, "method_not_allowed")),
    (b"CONNECT a:80 HTTP/1.1", Refused(405, "method_not_allowed")),
    (b"CONNECT / HTTP/1.1", Refused(405, "method_not_allowed")),
    (b"CONNECT http://a/ HTTP/1.1", Refused(405, "method_not_allowed")),
    // Bytes that no target has.
    (b"GET /\0 HTTP/1.1", BAD),
    (b"GET /\x01 HTTP/1.1", BAD),
    (b"GET /a\x0bb HTTP/1.1", BAD),
    (b"GET /a\x0cb HTTP/1.1", BAD),
    (b"GET /a\rb HTTP/1.1", BAD),
    (b"GET /\x7f HTTP/1.1", BAD),
    (b"GET /\xff HTTP/1.1", BAD),
    (b"GET /?\xff HTTP/1.1", BAD),
    (b"GET /\xc3\xa9 HTTP/1.1", get("GET /%C3%A9 HTTP/1.1")),
    // Forms of the target.
    (b"GET a HTTP/1.1", BAD),
    (b"GET a:80 HTTP/1.1", BAD),
    (b"GET a/b HTTP/1.1", BAD),
    (b"GET ../a HTTP/1.1", BAD),
    (b"GET \\ HTTP/1.1", BAD),
    (b"GET ?a HTTP/1.1", BAD),
    (b"GET #a HTTP/1.1", BAD),
    (b"GET * HTTP/1.1", BAD),
    (b"GET ** HTTP/1.1", BAD),
    (b"GET *a HTTP/1.1", BAD),
    (b"OPTIONS * HTTP/1.1", get("OPTIONS * HTTP/1.1")),
    (b"OPTIONS */a HTTP/1.1", BAD),
    (b"GET // HTTP/1.1", get("GET // HTTP/1.1")),
    (b"GET //b/x HTTP/1.1", get("GET //b/x HTTP/1.1")),
    (b"GET /http://b/ HTTP/1.1", get("GET /http://b/ HTTP/1.1")),
    (b"GET /a#b HTTP/1.1", get("GET /a HTTP/1.1")),
    (b"GET /a#/../b HTTP/1.1", get("GET /a HTTP/1.1")),
    (b"GET /a?b#c HTTP/1.1", get("GET /a?b HTTP/1.1")),
    (b"GET /?a?b=/../c HTTP/1.1", get("GET /?a?b=/../c HTTP/1.1")),
    // Absolute form.
    (b"GET http://b/x HTTP/1.1", get("GET /x HTTP/1.1")),
    (b"GET HTTP://b/x HTTP/1.1", get("GET /x HTTP/1.1")),
    (b"GET http://b HTTP/1.1", get("GET / HTTP/1.1")),
    (b"GET http://b?c HTTP/1.1", get("GET /?c HTTP/1.1")),
    (b"GET http://b:80/x HTTP/1.1", get("GET /x HTTP/1.1")),
    (b"GET http://b/../x HTTP/1.1", BAD),
    (b"GET http:// HTTP/1.1", BAD),
    (b"GET http:///a HTTP/1.1", BAD),
    (b"GET http:/a HTTP/1.1", BAD),
    (b"GET http:a HTTP/1.1", BAD),
    (b"GET mailto:a HTTP/1.1", BAD),
    (b"GET http://u@a/ HTTP/1.1", BAD),
    (b"GET http://u:p@a/ HTTP/1.1", BAD),
    (b"GET http://@a/ HTTP/1.1", BAD),
    (b"GET http://a:b/ HTTP/1.1", BAD),
    (b"GET http://:80/ HTTP/1.1", BAD),
    (b"GET http://a:80:80/ HTTP/1.1", BAD),
    (b"GET http://[::1/ HTTP/1.1", BAD),
    (b"GET http://[::1]x/ HTTP/1.1", BAD),
    (b"GET http://a\\b/ HTTP/1.1", BAD),
    (b"GET http://a%00/ HTTP/1.1", BAD),
];

#[tokio::test(flavor = "multi_thread")]
async fn request_line_is_read_in_one_way_or_not_at_all() {
    let mut table = Table::new().await;
    for (line, expected) in REQUEST_LINES {
        table.check([line, &b"\r\nhost: a\r\n\r\n"[..]].concat(), *expected).await;
    }
    let path = "x".repeat(1100);
    table.check(format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n"), Answered(414, "uri_too_long")).await;
    table.check(format!("GET /?{path} HTTP/1.1\r\nhost: a\r\n\r\n"), Answered(414, "uri_too_long")).await;
    let path = "x".repeat(9000);
    table.check(format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n"), Refused(431, "headers_too_large")).await;
    let method = "X".repeat(9000);
    table.check(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n"), Refused(431, "headers_too_large")).await;
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_end_in_one_way_only() {
    let mut table = Table::new().await;
    let cases: &[(&[u8], Expected)] = &[
        (b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", GET),
        (b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", GET),
        (b"\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        (b"\r\n\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        (b"\rGET / HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        (b"\r\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        (b" \r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        (b"\0GET / HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\nhost: a\n\n", BAD),
        (b"GET / HTTP/1.1\nhost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\rhost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\r\nhost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\n\r\nhost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\r\n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r \n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a \n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a\n\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a\r\rGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nhost: a\rx: b\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nx:\nhost: a\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nx:\r\n\nhost: a\r\n\r\n", BAD),
    ];
    for (head, expected) in cases {
        table.check(head, *expected).await;
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn field_is_a_name_a_colon_and_a_value() {
    let mut table = Table::new().await;
    let cases: &[(&[u8], Expected)] = &[
        // Names.
        (b"x : y", BAD),
        (b"x\t: y", BAD),
        (b" x: y", BAD),
        (b"\tx: y", BAD),
        (b": y", BAD),
        (b" : y", BAD),
        (b"x", BAD),
        (b"x=y", BAD),
        (b"x y: z", BAD),
        (b"x\0: y", BAD),
        (b"x\x7f: y", BAD),
        (b"x\xe9: y", BAD),
        (b"x(: y", BAD),
        (b"x,y: z", BAD),
        (b"x;y: z", BAD),
        (b"x/y: z", BAD),
        (b"x@y: z", BAD),
        (b"x\\y: z", BAD),
        (b"[x]: y", BAD),
        (b"{x}: y", BAD),
        (b"\"x\": y", BAD),
        (b":path: /x", BAD),
        (b":: x", BAD),
        (b"!#$%&'*+-.^_`|~: y", GET),
        (b"x_y: z", GET),
        // Values.
        (b"x: a\0b", BAD),
        (b"x: \x01", BAD),
        (b"x: a\x08b", BAD),
        (b"x: a\x0bb", BAD),
        (b"x: a\x1bb", BAD),
        (b"x: a\x7fb", BAD),
        (b"x: a\rb", BAD),
        (b"x: a\nb", BAD),
        (b"x: a\r\n b", BAD),
        (b"x: a\r\n\tb", BAD),
        (b"x: a\r\n \r\ny: z", BAD),
        (b"x:", GET),
        (b"x:y", GET),
        (b"x: \t y\t ", GET),
        (b"x: a\tb", GET),
        (b"x: \xe9\xff", GET),
        (b"x: a\xc2\x85b\xe2\x80\xa8c", GET),
        (b"x: y: z", GET),
    ];
    for (line, expected) in cases {
        table.check([&b"GET / HTTP/1.1\r\nhost: a\r\n"[..], line, b"\r\n\r\n"].concat(), *expected).await;
    }
    let many = "x: y\r\n".repeat(20);
    let large = Refused(431, "headers_too_large");
    table.check(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), large).await;
    table.check(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(9000)), large).await;
    table.check(format!("GET / HTTP/1.1\r\nhost: a\r\n{}: y\r\n\r\n", "x".repeat(9000)), large).await;
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_host_and_it_is_one() {
    let mut table = Table::new().await;
    let cases: &[(&[u8], Expected)] = &[
        (b"", BAD),
        (b"host: a\r\nhost: a\r\n", BAD),
        (b"host: a\r\nhost: b\r\n", BAD),
        (b"Host: a\r\nHOST: b\r\n", BAD),
        (b"host: a\r\nhost:\r\n", BAD),
        (b"host:\r\nhost: a\r\n", BAD),
        (b"host : a\r\n", BAD),
        (b" host: a\r\n", BAD),
        (b"host: a\r\n host: b\r\n", BAD),
        (b"host: a b\r\n", BAD),
        (b"host: a, b\r\n", BAD),
        (b"host: a\tb\r\n", BAD),
        (b"host: u@a\r\n", BAD),
        (b"host: u:p@a\r\n", BAD),
        (b"host: a/b\r\n", BAD),
        (b"host: a\\b\r\n", BAD),
        (b"host: a?b\r\n", BAD),
        (b"host: a#b\r\n", BAD),
        (b"host: http://a\r\n", BAD),
        (b"host: //a\r\n", BAD),
        (b"host: <a>\r\n", BAD),
        (b"host: \"a\"\r\n", BAD),
        (b"host: a\xe9\r\n", BAD),
        (b"host: a%\r\n", BAD),
        (b"host: a%zz\r\n", BAD),
        (b"host: a%41\r\n", BAD),
        (b"host: a%00\r\n", BAD),
        (b"host: a:b\r\n", BAD),
        (b"host: a:80b\r\n", BAD),
        (b"host: a:-1\r\n", BAD),
        (b"host: a:+1\r\n", BAD),
        (b"host: a:80:80\r\n", BAD),
        (b"host: a:70000\r\n", BAD),
        (b"host: :80\r\n", BAD),
        (b"host: ::1\r\n", BAD),
        (b"host: [::1\r\n", BAD),
        (b"host: ::1]\r\n", BAD),
        (b"host: []\r\n", BAD),
        (b"host: [::1]a\r\n", BAD),
        (b"host: [::1]:b\r\n", BAD),
        (b"host: [a]\r\n", BAD),
        (b"host: [::1]@a\r\n", BAD),
        (b"host: a[::1]\r\n", BAD),
        (b"host:\r\n", GET),
        (b"host: a:\r\n", GET),
        (b"host: a:80\r\n", GET),
        (b"host: a.\r\n", GET),
        (b"host: [::1]\r\n", GET),
        (b"host: [::1]:80\r\n", GET),
    ];
    for (lines, expected) in cases {
        table.check([&b"GET / HTTP/1.1\r\n"[..], lines, b"\r\n"].concat(), *expected).await;
    }
    table.check("GET / HTTP/1.0\r\n\r\n", Last("GET / HTTP/1.1", "", "")).await;
    table.check("GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", BAD).await;
    table.check("GET http://a/ HTTP/1.1\r\n\r\n", BAD).await;
    table.check("GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", BAD).await;
    table.check("GET http://a/ HTTP/1.1\r\nhost: b/c\r\n\r\n", BAD).await;
    table.check("GET http://a/ HTTP/1.1\r\nhost: u@b\r\n\r\n", BAD).await;
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn content_length_is_digits_and_there_is_one() {
    let mut table = Table::new().await;
    let cases: &[(&[u8], Expected)] = &[
        (b"content-length: 5", LENGTH),
        (b"Content-Length:5", LENGTH),
        (b"CONTENT-LENGTH:\t 5 \t", LENGTH),
        (b"content-length: +5", BAD),
        (b"content-length: -5", BAD),
        (b"content-length: 0x5", BAD),
        (b"content-length: 5h", BAD),
        (b"content-length: 5 5", BAD),
        (b"content-length: 5,5", BAD),
        (b"content-length: 5, 5", BAD),
        (b"content-length: 5, 6", BAD),
        (b"content-length: 5,", BAD),
        (b"content-length: ,5", BAD),
        (b"content-length: 5;", BAD),
        (b"content-length: 5.0", BAD),
        (b"content-length: 5e0", BAD),
        (b"content-length: \"5\"", BAD),
        (b"content-length: five", BAD),
        (b"content-length: \xd9\xa5", BAD),
        (b"content-length: 5\xa0", BAD),
        (b"content-length: 5\0", BAD),
        (b"content-length: 5\x0b", BAD),
        (b"content-length: \x0c5", BAD),
        (b"content-length:", BAD),
        (b"content-length: 18446744073709551616", BAD),
        (b"content-length: 18446744073709551621", BAD),
        (b"content-length: 99999999999999999999999999", BAD),
        (b"content-length : 5", BAD),
        (b" content-length: 5", BAD),
        (b"content-length\0: 5", BAD),
        (b"content-length: 5\r\n 6", BAD),
        (b"content-length:\r\n 5", BAD),
        (b"content-length: 5\rcontent-length: 6", BAD),
        (b"content-length: 5\r\ncontent-length: 5", BAD),
        (b"content-length: 5\r\ncontent-length: 6", BAD),
        (b"content-length: 5\r\nContent-Length: 0", BAD),
        (b"content-length: 0\r\ncontent-length: 5", BAD),
        (b"content-length: 5\r\ncontent-length:", BAD),
        (b"content-length: 5\r\ntransfer-encoding: chunked", BAD),
        (b"transfer-encoding: chunked\r\ncontent-length: 5", BAD),
        (b"Transfer-Encoding: chunked\r\nx: y\r\nContent-Length: 0", BAD),
        (b"content-length: 5\r\nconnection: content-length", LENGTH),
        (
            b"content-length: 5\r\nconnection: Content-Length, close",
            Last("POST / HTTP/1.1", "content-length: 5", "hello"),
        ),
        (b"content-length: 5\r\nconnection: transfer-encoding\r\ntransfer-encoding: chunked", BAD),
    ];
    for (lines, expected) in cases {
        table.check([&b"POST / HTTP/1.1\r\nhost: a\r\n"[..], lines, b"\r\n\r\nhello"].concat(), *expected).await;
    }
    let leading_zeros = Forwarded("POST / HTTP/1.1", "content-length: 005", "hello");
    table.check("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 005\r\n\r\nhello", leading_zeros).await;
    let get = Forwarded("GET / HTTP/1.1", "content-length: 5", "hello");
    table.check("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", get).await;
    table
        .check(
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            Forwarded("GET / HTTP/1.1", "content-length: 0", ""),
        )
        .await;
    table.check("POST / HTTP/1.1\r\nhost: a\r\n\r\n", Forwarded("POST / HTTP/1.1", "", "")).await;
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_is_the_only_coding_and_comes_once() {
    let mut table = Table::new().await;
    let cases: &[(&[u8], Expected)] = &[
        (b"transfer-encoding: chunked", CHUNKED),
        (b"Transfer-Encoding:chunked", CHUNKED),
        (b"TRANSFER-ENCODING:\t CHUNKED \t", CHUNKED),
        (b"transfer-encoding: cHuNkEd", CHUNKED),
        (b"transfer-encoding: chunked\r\nconnection: transfer-encoding", CHUNKED),
        (b"transfer-encoding: identity", CODING),
        (b"transfer-encoding: gzip", CODING),
        (b"transfer-encoding: gzip, chunked", CODING),
        (b"transfer-encoding: chunked, gzip", CODING),
        (b"transfer-encoding: chunked, chunked", CODING),
        (b"transfer-encoding: chunked, identity", CODING),
        (b"transfer-encoding: chunked,", CODING),
        (b"transfer-encoding: ,chunked", CODING),
        (b"transfer-encoding: xchunked", CODING),
        (b"transfer-encoding: chunkedx", CODING),
        (b"transfer-encoding: chunked;x", CODING),
        (b"transfer-encoding: chunked;q=0.5", CODING),
        (b"transfer-encoding: \"chunked\"", CODING),
        (b"transfer-encoding: 'chunked'", CODING),
        (b"transfer-encoding: chunked chunked", CODING),
        (b"transfer-encoding: chun ked", CODING),
        (b"transfer-encoding: chunked\xa0", CODING),
        (b"transfer-encoding: chun\xc5\xa7ed", CODING),
        (b"transfer-encoding:", CODING),
        (b"transfer-encoding: chunked\r\ntransfer-encoding: chunked", CODING),
        (b"transfer-encoding: chunked\r\ntransfer-encoding: identity", CODING),
        (b"transfer-encoding: identity\r\ntransfer-encoding: chunked", CODING),
        (b"Transfer-Encoding: gzip\r\nTRANSFER-ENCODING: chunked", CODING),
        (b"transfer-encoding: chunked\r\ntransfer-encoding:", CODING),
        (b"transfer-encoding: gzip\r\ncontent-length: 5", CODING),
        (b"transfer-encoding: \x0bchunked", BAD),
        (b"transfer-encoding: chunked\x0b", BAD),
        (b"transfer-encoding: chunked\x0c", BAD),
        (b"transfer-encoding: chunked\0", BAD),
        (b"transfer-encoding : chunked", BAD),
        (b"transfer-encoding\t: chunked", BAD),
        (b"transfer-encoding\x0b: chunked", BAD),
        (b" transfer-encoding: chunked", BAD),
        (b"x: y\r\n transfer-encoding: chunked", BAD),
        (b"transfer-encoding: chunked\r\n , identity", BAD),
        (b"transfer-encoding:\r\n chunked", BAD),
        (b"transfer-encoding: chunked\rx: y", BAD),
        (b"x: y\ntransfer-encoding: chunked", BAD),
    ];
    for (lines, expected) in cases {
        let head = [&b"POST / HTTP/1.1\r\nhost: a\r\n"[..], lines, b"\r\n\r\n"].concat();
        table.check([&head, CHUNKS.as_bytes()].concat(), *expected).await;
    }
    let get = Forwarded("GET / HTTP/1.1", "transfer-encoding: chunked", "hello");
    table.check(format!("GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{CHUNKS}"), get).await;
    table.check(format!("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{CHUNKS}"), BAD).await;
    let kept = "connection: keep-alive\r\ntransfer-encoding: chunked";
    table.check(format!("POST / HTTP/1.0\r\nhost: a\r\n{kept}\r\n\r\n{CHUNKS}"), BAD).await;
    // No server should take these for what they are not; if one does, it has been told nothing else.
    let disguised = "transfer_encoding: chunked\r\ncontent-length: 5";
    table.check(format!("POST / HTTP/1.1\r\nhost: a\r\n{disguised}\r\n\r\nhello"), LENGTH).await;
    let disguised = "content_length: 50\r\ntransfer-encoding: chunked";
    table.check(format!("POST / HTTP/1.1\r\nhost: a\r\n{disguised}\r\n\r\n{CHUNKS}"), CHUNKED).await;
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_have_one_end() {
    let mut table = Table::new().await;
    let zeros = "0".repeat(16) + "5\r\nhello\r\n0\r\n\r\n";
    let cases: &[(&str, Expected)] = &[
        (CHUNKS, CHUNKED),
        ("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", CHUNKED),
        ("0005\r\nhello\r\n000\r\n\r\n", CHUNKED),
        ("5;a=b\r\nhello\r\n0;c\r\n\r\n", CHUNKED),
        ("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", CHUNKED),
        ("5 ;a\r\nhello\r\n0\r\n\r\n", CHUNKED),
        ("5 \t\r\nhello\r\n0\r\n\r\n", CHUNKED),
        ("0\r\n\r\n", Forwarded("POST / HTTP/1.1", "transfer-encoding: chunked", "")),
        // Sizes.
        (&zeros, BAD),
        ("x\r\nhello\r\n0\r\n\r\n", BAD),
        ("\r\nhello\r\n0\r\n\r\n", BAD),
        (" 5\r\nhello\r\n0\r\n\r\n", BAD),
        ("\t5\r\nhello\r\n0\r\n\r\n", BAD),
        ("-5\r\nhello\r\n0\r\n\r\n", BAD),
        ("+5\r\nhello\r\n0\r\n\r\n", BAD),
        ("0x5\r\nhello\r\n0\r\n\r\n", BAD),
        ("5h\r\nhello\r\n0\r\n\r\n", BAD),
        ("5_0\r\nhello\r\n0\r\n\r\n", BAD),
        ("5 5\r\nhello\r\n0\r\n\r\n", BAD),
        ("5,5\r\nhello\r\n0\r\n\r\n", BAD),
        ("5.\r\nhello\r\n0\r\n\r\n", BAD),
        (";a\r\nhello\r\n0\r\n\r\n", BAD),
        ("\"5\"\r\nhello\r\n0\r\n\r\n", BAD),
        ("5\0\r\nhello\r\n0\r\n\r\n", BAD),
        ("5\x0b\r\nhello\r\n0\r\n\r\n", BAD),
        ("10000000000000005\r\nhello\r\n0\r\n\r\n", BAD),
        ("fffffffffffffffff\r\nhello\r\n0\r\n\r\n", BAD),
        // Ends of lines.
        ("5\nhello\r\n0\r\n\r\n", BAD),
        ("5\rhello\r\n0\r\n\r\n", BAD),
        ("5\r\r\nhello\r\n0\r\n\r\n", BAD),
        ("5\n\r\nhello\r\n0\r\n\r\n", BAD),
        ("5;a\nhello\r\n0\r\n\r\n", BAD),
        ("5;a\rb\r\nhello\r\n0\r\n\r\n", BAD),
        ("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", BAD),
        ("5\r\nhello\n0\r\n\r\n", BAD),
        ("5\r\nhello\r0\r\n\r\n", BAD),
        ("5\r\nhello0\r\n\r\n", BAD),
        ("5\r\nhelloXX0\r\n\r\n", BAD),
        ("5\r\nhello\r\n\r\n0\r\n\r\n", BAD),
        ("4\r\nhello\r\n0\r\n\r\n", BAD),
        ("6\r\nhello\r\n0\r\n\r\n", BAD),
        ("5\r\nhello\r\n0\n\r\n", BAD),
        ("5\r\nhello\r\n0\r\n\n", BAD),
        ("5\r\nhello\r\n0\r\r\n\r\n", BAD),
        ("5\r\nhello\r\n0\rX\r\n", BAD),
        // Trailers.
        ("5\r\nhello\r\n0\r\nx: y\n\r\n", BAD),
        ("5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n", BAD),
        ("5\r\nhello\r\n0\r\nx : y\r\n\r\n", BAD),
        ("5\r\nhello\r\n0\r\nx\r\n\r\n", BAD),
        ("5\r\nhello\r\n0\r\nx: \0\r\n\r\n", BAD),
        ("5\r\nhello\r\n0\r\nx: a\rb\r\n\r\n", BAD),
        ("5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
    ];
    for (body, expected) in cases {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        table.check(format!("{head}{body}"), *expected).await;
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn expectation_is_met_or_refused() {
    let mut table = Table::new().await;
    // The client may be about to send a body that nobody has asked for: nothing can be told behind it.
    let failed = Refused(417, "expectation_failed");
    let cases: &[(&str, Expected)] = &[
        ("expect: 100-continue", LENGTH),
        ("Expect: 100-Continue", LENGTH),
        ("expect: 100-continue\r\nexpect: 100-continue", LENGTH),
        ("expect: tea", failed),
        ("expect:", failed),
        ("expect: 100-continue, tea", failed),
        ("expect: 100-continue=yes", failed),
        ("expect: 100-continue\r\nexpect: tea", failed),
        ("expect: tea\r\nexpect: 100-continue", failed),
    ];
    for (lines, expected) in cases {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n{lines}\r\n\r\nhello");
        table.check(head, *expected).await;
    }
    table.findings.end();
}

/// What the endpoint sees of a GET of `/` with these field lines beside its host `a`: the fields of a name, in order.
async fn check_fields(table: &mut Table, cases: &[(&str, &str, &[&str])]) {
    for (lines, name, expected) in cases {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n");
        let (_, requests) = table.send(request.as_bytes()).await;
        let seen = requests.first().map(|request| request.all(name));
        table.findings.note(format!("{lines} ({name})").as_bytes(), &seen, &Some(expected.to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_takes_away_what_is_the_clients_and_no_more() {
    let mut table = Table::new().await;
    let cases: &[(&str, &str, &[&str])] = &[
        ("x: 1\r\nconnection: x", "x", &[]),
        ("x: 1\r\nconnection: X", "x", &[]),
        ("X: 1\r\nCONNECTION: x", "x", &[]),
        ("x: 1\r\nx: 2\r\nconnection: x", "x", &[]),
        ("connection: x\r\nx: 1", "x", &[]),
        ("x: 1\r\nconnection: y\r\nconnection: x", "x", &[]),
        ("x: 1\r\nconnection: y,\tx ,z", "x", &[]),
        ("x: 1\r\nconnection: ,,x,", "x", &[]),
        ("x: 1\r\nconnection: close, \"x\"", "x", &["1"]),
        ("x: 1\r\nconnection: xx", "x", &["1"]),
        ("x: 1\r\nconnection: x;y", "x", &["1"]),
        ("x: 1\r\nconnection: \u{e9}, x", "x", &[]),
        ("cookie: a=1\r\nconnection: cookie", "cookie", &[]),
        ("connection: host", "host", &["a"]),
        ("connection: HOST", "host", &["a"]),
        ("connection: x-forwarded-for", "x-forwarded-for", &["127.0.0.1"]),
        ("connection: x-forwarded-for\r\nx-forwarded-for: 1.2.3.4", "x-forwarded-for", &["127.0.0.1"]),
        ("connection: x-real-ip, x-forwarded-host", "x-forwarded-host", &["a"]),
        ("connection: forwarded", "forwarded", &["for=127.0.0.1;proto=http;host=\"a\""]),
        ("connection: connection, keep-alive", "connection", &[]),
        ("connection: keep-alive", "connection", &[]),
        ("connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__", "upgrade", &[]),
        ("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA", "http2-settings", &[]),
        ("connection: Upgrade, HTTP2-Settings\r\nupgrade: H2C\r\nhttp2-settings: AAMA", "connection", &[]),
        ("connection: upgrade\r\nupgrade: h2", "upgrade", &[]),
        ("connection: upgrade\r\nupgrade: HTTP/2.0", "upgrade", &[]),
        ("connection: upgrade\r\nupgrade: TLS/1.0", "upgrade", &[]),
        ("upgrade: websocket", "upgrade", &[]),
        ("keep-alive: timeout=1", "keep-alive", &[]),
        ("proxy-connection: keep-alive", "proxy-connection", &[]),
        ("proxy-authorization: Basic eA==", "proxy-authorization", &[]),
        ("te: gzip, chunked", "te", &[]),
        ("te: trailers, gzip", "te", &["trailers"]),
    ];
    check_fields(&mut table, cases).await;
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_that_is_not_made_leaves_requests_behind_it() {
    let mut table = Table::new().await;
    // The endpoint answers 200 to all of them.
    let length = Forwarded("GET / HTTP/1.1", "content-length: 5", "hello");
    let chunked = Forwarded("GET / HTTP/1.1", "transfer-encoding: chunked", "hello");
    let cases: &[(&str, &str, Expected)] = &[
        ("upgrade: websocket", "", GET),
        ("upgrade: WebSocket, h2c", "", GET),
        ("upgrade: anything", "", GET),
        ("upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__", "", GET),
        ("upgrade: websocket\r\ncontent-length: 5", "hello", length),
        ("upgrade: h2c\r\ncontent-length: 5", "hello", length),
        ("upgrade: websocket\r\ntransfer-encoding: chunked", CHUNKS, chunked),
        ("upgrade: websocket\r\ncontent-length: 5\r\ntransfer-encoding: chunked", CHUNKS, BAD),
    ];
    for (lines, body, expected) in cases {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n{lines}\r\n\r\n");
        table.check(format!("{head}{body}"), *expected).await;
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn stranger_cannot_say_who_it_is() {
    let mut table = Table::new().await;
    let us: &[&str] = &["127.0.0.1"];
    let cases: &[(&str, &str, &[&str])] = &[
        ("x-forwarded-for: 1.2.3.4", "x-forwarded-for", us),
        ("X-FORWARDED-FOR: 1.2.3.4", "x-forwarded-for", us),
        ("x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8", "x-forwarded-for", us),
        ("x_forwarded_for: 1.2.3.4", "x_forwarded_for", &[]),
        ("x-forwarded_for: 1.2.3.4", "x-forwarded_for", &[]),
        ("X_Forwarded-For: 1.2.3.4", "x_forwarded-for", &[]),
        ("x-real-ip: 1.2.3.4", "x-real-ip", us),
        ("x_real_ip: 1.2.3.4", "x_real_ip", &[]),
        ("x-real_ip: 1.2.3.4", "x-real_ip", &[]),
        ("x-forwarded-host: evil", "x-forwarded-host", &["a"]),
        ("x_forwarded_host: evil", "x_forwarded_host", &[]),
        ("x-forwarded-proto: https", "x-forwarded-proto", &["http"]),
        ("x_forwarded_proto: https", "x_forwarded_proto", &[]),
        ("x-forwarded-prefix: /evil", "x-forwarded-prefix", &[]),
        ("x-forwarded-ssl: on", "x-forwarded-ssl", &[]),
        ("x-forwarded-client-cert: evil", "x-forwarded-client-cert", &[]),
        ("forwarded: for=1.2.3.4", "forwarded", &["for=127.0.0.1;proto=http;host=\"a\""]),
        ("Forwarded: for=1.2.3.4\r\nforwarded: host=evil", "forwarded", &["for=127.0.0.1;proto=http;host=\"a\""]),
        ("x_request_id: evil", "x_request_id", &[]),
    ];
    check_fields(&mut table, cases).await;
    let (_, requests) = table.send(b"GET http://b:81/ HTTP/1.1\r\nhost: c\r\n\r\n").await;
    let seen = ["host", "x-forwarded-host"].map(|name| requests[0].all(name));
    table.findings.note(b"absolute form", &seen, &[vec!["b:81"], vec!["b:81"]]);
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_body_frames_routes_or_authenticates() {
    let mut table = Table::new().await;
    let dropped = [
        "content-length: 3",
        "Content-Length: 3",
        "transfer-encoding: chunked",
        "host: b",
        "connection: close",
        "te: trailers",
        "trailer: x",
        "upgrade: websocket",
        "keep-alive: 1",
        "proxy-connection: keep-alive",
        "authorization: Basic eA==",
        "proxy-authorization: Basic eA==",
        "cookie: a=1",
        "set-cookie: a=1",
        "forwarded: for=1.2.3.4",
        "x-forwarded-for: 1.2.3.4",
        "x_forwarded_for: 1.2.3.4",
        "X-Forwarded_Proto: https",
        "x-real-ip: 1.2.3.4",
        "x_real_ip: 1.2.3.4",
        "x-request-id: evil",
    ];
    let passed = ["x-sum: 1", "grpc-status: 0"];
    let cases = dropped.map(|line| (line, vec![])).into_iter().chain(passed.map(|line| (line, vec![line.to_owned()])));
    for (line, expected) in cases {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let (_, requests) = table.send(format!("{head}5\r\nhello\r\n0\r\n{line}\r\n\r\n").as_bytes()).await;
        let seen = requests.first().map(|request| request.trailers.clone());
        table.findings.note(line.as_bytes(), &seen, &Some(expected));
        table.findings.note(line.as_bytes(), &requests.len(), &2);
    }
    table.findings.end();
}

/// Who takes a path, and what is left of it at the endpoint.
#[derive(Debug, PartialEq)]
enum Taken {
    /// The route for `/public`, which passes it on as it is.
    Public(&'static str),
    /// The route for `/cut`, whose middleware takes that away.
    Cut(&'static str),
    /// No route.
    Nobody,
    /// It is refused.
    Bad,
}

use Taken::{Bad, Cut, Nobody, Public};

/// Paths as they are sent.
const PATHS: &[(&[u8], Taken)] = &[
    (b"/public", Public("/public")),
    (b"/public/", Public("/public/")),
    (b"/public/a", Public("/public/a")),
    (b"/publicity", Nobody),
    (b"/Public/a", Nobody),
    (b"/private", Nobody),
    // Dot segments.
    (b"/public/../private", Nobody),
    (b"/public/./a", Public("/public/a")),
    (b"/public/..", Nobody),
    (b"/public/.", Public("/public/")),
    (b"/private/../public/a", Public("/public/a")),
    (b"/./public/a", Public("/public/a")),
    (b"/../public/a", Bad),
    (b"/public/../../a", Bad),
    (b"/public/.../a", Public("/public/.../a")),
    (b"/public/..a", Public("/public/..a")),
    // Encoded.
    (b"/%70ublic/a", Public("/public/a")),
    (b"/public/%61", Public("/public/a")),
    (b"/public/%2e%2e/private", Nobody),
    (b"/public/%2E%2e/private", Nobody),
    (b"/public/.%2e/private", Nobody),
    (b"/public/%2e./private", Nobody),
    (b"/public/%2e/a", Public("/public/a")),
    (b"/private/%2e%2e/public/a", Public("/public/a")),
    (b"/public/%252e%252e/private", Public("/public/%252e%252e/private")),
    (b"/public/%c3%a9", Public("/public/%C3%A9")),
    (b"/public/\xc3\xa9", Public("/public/%C3%A9")),
    (b"/public/%ff", Public("/public/%FF")),
    (b"/public/\xff", Bad),
    // Encoded slashes and backslashes are no borders, and hide no dots.
    (b"/public%2fa", Nobody),
    (b"/public%2Fa", Nobody),
    (b"/public/a%2fb", Public("/public/a%2Fb")),
    (b"/public/..%2fprivate", Bad),
    (b"/public/%2e%2e%2fprivate", Bad),
    (b"/public/a%2f..%2f..%2fprivate", Bad),
    (b"/public%2f..%2fprivate", Bad),
    (b"/public\\a", Nobody),
    (b"/public/a\\b", Public("/public/a%5Cb")),
    (b"/public/..\\private", Bad),
    (b"/public/..%5cprivate", Bad),
    (b"/public\\..\\private", Bad),
    (b"/public/%252f..", Public("/public/%252f..")),
    // Slashes are not merged.
    (b"//public/a", Nobody),
    (b"/public//a", Public("/public//a")),
    (b"/public//../a", Public("/public/a")),
    (b"/public//../../private", Nobody),
    // Parameters.
    (b"/public;a=b/c", Nobody),
    (b"/public/;a", Public("/public/;a")),
    (b"/public/a;b=c", Public("/public/a;b=c")),
    (b"/public/..;/private", Bad),
    (b"/public/..;a=b/private", Bad),
    (b"/public/.;/private", Bad),
    (b"/public/%2e%2e;/private", Bad),
    (b"/public/..%3b/private", Public("/public/..%3B/private")),
    // What is no path.
    (b"/public/%", Bad),
    (b"/public/%2", Bad),
    (b"/public/%zz", Bad),
    (b"/public/%u002e", Bad),
    (b"/public/%00", Bad),
    (b"/public/%0d%0ax:%20y", Bad),
    (b"/public/%0a", Bad),
    (b"/public/%7f", Bad),
    (b"/public/%09", Bad),
    // The query is no path.
    (b"/public?/../private", Public("/public?/../private")),
    (b"/public%3fa", Nobody),
    (b"/private?/public/", Nobody),
    // What the middleware cuts off is what the router has found.
    (b"/cut", Cut("/")),
    (b"/cut/", Cut("/")),
    (b"/cut/a", Cut("/a")),
    (b"/cut//a", Cut("//a")),
    (b"/%63ut/%61", Cut("/a")),
    (b"/./cut/./a", Cut("/a")),
    (b"/cut/a/../b", Cut("/b")),
    (b"/cut/%2e%2e/public/a", Public("/public/a")),
    (b"/cut/../private", Nobody),
    (b"/cut/..%2fprivate", Bad),
    (b"/cut%2fa", Nobody),
    (b"/cut/a%2fb", Cut("/a%2Fb")),
    (b"/cut/a\\b", Cut("/a%5Cb")),
    (b"/cut/cut/a", Cut("/cut/a")),
    (b"/cut/%2e/a?b=%2e", Cut("/a?b=%2e")),
    (b"/cute", Nobody),
];

#[tokio::test(flavor = "multi_thread")]
async fn router_middleware_and_endpoint_see_the_same_path() {
    let routes = "[middlewares.cut]\nstrip_prefix = [\"/cut\"]\n\
                  [routes.public]\npath_prefix = \"/public\"\nservice = \"shop\"\n\
                  [routes.cut]\npath_prefix = \"/cut\"\nmiddlewares = [\"cut\"]\nservice = \"shop\"\n";
    let config = CONFIG.replace("[routes.all]\n    service = \"shop\"\n", routes);
    let mut table = Table::with(&config).await;
    for (path, expected) in PATHS {
        let request = [b"GET ", *path, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        let (answers, requests) = table.send(&request).await;
        let reason = answers.first().map_or("", |answer| answer.field("x-waypost-reason"));
        let cut = requests.first().is_some_and(|request| request.all("x-forwarded-prefix") == ["/cut"]);
        let received = requests.first().and_then(|request| request.line.split(' ').nth(1)).unwrap_or_default();
        let (word, left) = match expected {
            Public(left) => ("", (false, *left)),
            Cut(left) => ("", (true, *left)),
            Nobody => ("no_route", (false, "")),
            Bad => ("bad_request", (false, "")),
        };
        table.findings.note(path, &(reason, (cut, received)), &(word, left));
    }
    table.findings.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn origin_that_answers_at_once_is_not_given_the_rest_as_a_request() {
    // The endpoint says no before the upload has come; what is left of the upload must not be read as a request.
    let mut table = Table::new().await;
    table
        .origin
        .plays("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", Then::Close)
        .await;
    let body = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (answers, requests) = table.send(request.as_bytes()).await;
    let statuses: Vec<u16> = answers.iter().map(Answer::status).collect();
    let lines: Vec<&str> = requests.iter().map(|request| &*request.line).collect();
    table.findings.note(
        b"early answer",
        &(statuses, lines),
        &(vec![413, 200], vec!["POST / HTTP/1.1", "GET /behind HTTP/1.1"]),
    );
    table.findings.end();
}
