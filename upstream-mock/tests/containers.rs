//! What a container promises about who it is, how it dies and how it comes back.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use upstream_mock::{Container, Fleet, FleetOptions};

async fn fleet() -> Fleet {
    Fleet::start(FleetOptions::default()).await.unwrap()
}

async fn get(container: &Container, path: &str) -> String {
    let mut stream = TcpStream::connect(container.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn every_container_says_who_it_is() {
    let fleet = fleet().await;
    for container in fleet.containers() {
        let answer = get(container, "/").await;
        assert!(answer.contains(&format!("x-upstream: {}\r\n", container.name())), "{answer}");
        assert!(answer.ends_with(&format!("hello from {}\n", container.name())), "{answer}");
        assert_eq!(container.requests(), 1);
    }
}

#[tokio::test]
async fn crash_resets_every_connection_and_refuses_new_ones() {
    let fleet = fleet().await;
    let web2 = fleet.container("web-2").unwrap();
    let mut idle = TcpStream::connect(web2.address()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: mock\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);

    web2.crash().await;

    assert_eq!(idle.read(&mut [0; 1024]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(TcpStream::connect(web2.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(get(fleet.container("web-1").unwrap(), "/").await.contains("web-1"));
}

#[tokio::test]
async fn recovered_container_answers_on_the_same_port() {
    let fleet = fleet().await;
    let web2 = fleet.container("web-2").unwrap();
    for _ in 0..3 {
        web2.crash().await;
        web2.recover().await.unwrap();
        assert!(get(web2, "/").await.contains("hello from web-2"));
    }
}
