//! What an auditor finds: testssl.sh, the real tool, against a listener with nothing but defaults and a good certificate.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use waypost_tests::tls::Authority;
use waypost_tests::{Stack, installed};

/// The header fields are the site's business; without them the tool finds that they are missing.
const CONFIG: &str = r#"
    version = 1
    [server]
    workers = 1
    [listeners.web]
    address = "127.0.0.1:0"
    [listeners.web.tls]
    certificates = [{ cert = "{dir}/site.pem", key = "{dir}/site.key" }]
    [middlewares.secure.headers.response_set]
    strict-transport-security = "max-age=31536000"
    x-content-type-options = "nosniff"
    x-frame-options = "DENY"
    content-security-policy = "default-src 'self'"
    referrer-policy = "no-referrer"
    [routes.all]
    middlewares = ["secure"]
    service = "shop"
    [services.shop]
    endpoints = [{ name = "web-1", url = "http://{web-1}" }]
"#;

/// What the tool may report, each with the reason why it says nothing about Waypost.
const EXCEPTIONS: [(&str, &str); 2] = [
    ("engine_problem", "the machine's OpenSSL has no GOST engine for the tool to ask with"),
    (
        "sessionresumption_ticket",
        "its client may leave right after the handshake, and so without the ticket that it then wants to come back with; \
         that tickets bring a session back is proven beside the handshakes",
    ),
];

/// Protocols, ciphers, forward secrecy, preferences, certificate, header fields, vulnerabilities: all but the simulation
/// of clients. Without DNS, and without asking anybody but the listener.
const SECTIONS: [&str; 7] = ["-p", "-s", "-f", "-P", "-S", "-h", "-U"];

/// One from each section, and from the end of the last: a report without them is of a run that broke off.
const LOOKED_AT: [&str; 8] = [
    "TLS1_3",
    "cipherlist_STRONG",
    "cipher_order",
    "cert_chain_of_trust",
    "HSTS_time",
    "heartbleed",
    "secure_client_renego",
    "LUCKY13",
];

/// Of the whole run, in seconds; it needs an eighth of that, most of it waiting for time to pass.
const PATIENCE: &str = "240";

#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    severity: String,
    #[serde(rename = "finding")]
    #[expect(dead_code, reason = "shown when the test fails")]
    text: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn auditor_finds_nothing_worse_than_informational() {
    // Debian's name, and its makers'.
    let Some(tool) = installed(&["testssl", "testssl.sh"]) else {
        return println!("skipped: testssl.sh is not installed");
    };
    let authority = Authority::new("authority");
    let pair = authority.site("test.example");
    let files = [("site.pem", pair.cert.as_str()), ("site.key", &pair.key), ("ca.pem", &authority.pem())];
    let stack = Stack::with_files(CONFIG, &files).await;
    let port = stack.address("web").port();
    let folder = stack.folder().to_owned();
    let report = tokio::task::spawn_blocking(move || audit(&tool, &folder, port)).await.unwrap();
    for id in LOOKED_AT {
        assert!(report.iter().any(|finding| finding.id.starts_with(id)), "it has not looked at {id}: {report:#?}");
    }
    let bad: Vec<_> = report.into_iter().filter(is_bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

fn is_bad(finding: &Finding) -> bool {
    let harmless = matches!(finding.severity.as_str(), "OK" | "INFO" | "DEBUG");
    !harmless && !EXCEPTIONS.iter().any(|(id, _)| *id == finding.id)
}

fn audit(tool: &Path, folder: &Path, port: u16) -> Vec<Finding> {
    let report = folder.join("report.json");
    let output = Command::new("timeout")
        .args(["--kill-after", "5", PATIENCE])
        .arg(tool)
        .args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1"])
        .args(["--connect-timeout", "5", "--openssl-timeout", "5"])
        .arg("--add-ca")
        .arg(folder.join("ca.pem"))
        .arg("--jsonfile")
        .arg(&report)
        .args(SECTIONS)
        .arg(format!("https://test.example:{port}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let report = std::fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {said}"));
    serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error} in {report}\n{said}"))
}
