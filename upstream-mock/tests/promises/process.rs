//! The binary: what it says, how it stops, how it is killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{exchange, read_out};

struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_upstream-mock")).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The address in the next line of the banner, which has to begin with this name.
    fn address_of(&mut self, name: &str) -> SocketAddr {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.starts_with(name), "{line}");
        line.split_once("http://").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }
}

const CLOSING: &str = "GET / HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn banner_says_what_is_where() {
    let mut process = Process::start(&["--count", "2", "--base-port", "0", "--name-prefix", "app"]);
    for name in ["app-1", "app-2"] {
        let (answer, _) = exchange(process.address_of(name), CLOSING).await;
        assert!(String::from_utf8(answer).unwrap().contains(&format!("hello from {name}")));
    }
    let control = process.address_of("control");
    let (answer, _) = exchange(control, "GET /containers HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(String::from_utf8(answer).unwrap().contains("app-2"));
}

#[tokio::test]
async fn containers_of_separate_processes_have_names_of_their_own() {
    for (arguments, name) in [(["--name", "solo"], "solo"), (["--first-number", "7"], "web-7")] {
        let mut process = Process::start(&[&["--count", "1", "--base-port", "0"], arguments.as_slice()].concat());
        let (answer, _) = exchange(process.address_of(name), CLOSING).await;
        assert!(String::from_utf8(answer).unwrap().contains(&format!("x-upstream: {name}\r\n")));
    }
}

#[tokio::test]
async fn sigterm_lets_the_request_in_flight_finish() {
    let mut process = Process::start(&["--count", "1", "--base-port", "0"]);
    let address = process.address_of("web-1");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /trickle?bytes=20&every=10ms HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    process.signal("-TERM");
    let (answer, end) = read_out(&mut stream).await;
    end.unwrap();
    assert!(answer.ends_with(b"0\r\n\r\n"), "the body is whole");
    assert!(process.child.wait().unwrap().success());
}

#[tokio::test]
async fn bare_process_answers() {
    let mut process = Process::start(&["--bare", "--count", "1", "--base-port", "0"]);
    let address = process.address_of("web-1");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    process.signal("-TERM");
    let (answer, _) = read_out(&mut stream).await;
    assert!(answer.ends_with(b"hello from web-1\n"));
    assert!(process.child.wait().unwrap().success());
}

#[test]
fn help_teaches_pages_faults_and_control() {
    let help = Command::new(env!("CARGO_BIN_EXE_upstream-mock")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["/echo", "reset_in_body", "x-mock-on", "/executions", "/containers/web-2/crash", "--bare"] {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
}
