//! `/api/events`: what an operator hears of, as it happens and afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

use crate::eventually;
use crate::process::Scene;

async fn ask(admin: SocketAddr, method: &str, path: &str, fields: &str) -> TcpStream {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Listens from after this event on.
async fn listen(admin: SocketAddr, fields: &str) -> Lines<BufReader<TcpStream>> {
    BufReader::new(ask(admin, "GET", "/api/events", fields).await).lines()
}

/// The next event.
async fn heard_any(lines: &mut Lines<BufReader<TcpStream>>) -> Value {
    let next = async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), next).await.unwrap()
}

/// Events up to the first with this message, that one included.
async fn heard(lines: &mut Lines<BufReader<TcpStream>>, message: &str) -> Vec<Value> {
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Value| event["message"] != message) {
        events.push(heard_any(lines).await);
    }
    events
}

async fn order(admin: SocketAddr, path: &str) {
    let mut answer = String::new();
    ask(admin, "POST", path, "content-length: 0\r\n").await.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn operator_hears_of_everything_once_also_if_the_log_says_nothing() {
    let quiet = "[telemetry]\nlog = { level = \"error\" }\n\
                 [services.web.health_check]\ninterval = \"50ms\"\ntimeout = \"40ms\"\nfall = 1\nrise = 1\n";
    let scene = Scene::new("").await;
    let running = scene.start(&["run"]).await;
    let admin = running.admin();
    let mut lines = listen(admin, "").await;
    let first = heard(&mut lines, "started").await;
    assert_eq!((&first[0]["id"], &first[0]["level"]), (&1.into(), &"info".into()));

    scene.write(&scene.config(quiet));
    let published = heard(&mut lines, "config published").await;
    let published = published.last().unwrap();
    assert_eq!((&published["generation"], &published["changes"]), (&2.into(), &"~telemetry, ~service web".into()));
    let length = running.log().len();

    scene.fleet.container("web-2").unwrap().crash().await;
    let down = loop {
        let event = heard(&mut lines, "endpoint health").await.pop().unwrap();
        if event["to"] == "down" {
            break event;
        }
    };
    assert_eq!((&down["service"], &down["endpoint"]), (&"web".into(), &"web-2".into()));
    assert!(down["why"].as_str().unwrap().contains("refused"), "{down}");
    order(admin, "/api/services/web/endpoints/web-1/drain").await;
    assert_eq!(heard(&mut lines, "operator's order").await.last().unwrap()["endpoint"], "web-1");
    scene.write(&scene.config("nonsense = 1"));
    let refused = loop {
        let event = heard_any(&mut lines).await;
        if event["level"] == "error" {
            break event;
        }
    };
    assert!(refused["message"].as_str().unwrap().contains("nonsense"), "{refused}");
    eventually!(running.log()[length..].contains("nonsense"));
    assert!(!running.log()[length..].contains("operator's order"), "the log is to say errors only");

    // Who was away goes on where it left off; who wants a list gets one.
    let id = down["id"].as_u64().unwrap();
    let mut again = listen(admin, &format!("last-event-id: {}\r\n", id - 1)).await;
    assert_eq!(heard_any(&mut again).await, down);
    let mut list = String::new();
    let mut stream = ask(admin, "GET", &format!("/api/events?after={}", id - 1), "accept: application/json\r\n").await;
    stream.read_to_string(&mut list).await.unwrap();
    let body = list.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Value>>(body).unwrap()[0], down);
}
