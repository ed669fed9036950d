//! Who a container is, how it dies and how it comes back.

use std::io::ErrorKind;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use upstream_mock::{Fault, Fleet, FleetOptions, StartError};

use crate::client::{eventually, fleet, get, get_h2, h1, h2, plain, read, read_out, send};

#[tokio::test]
async fn every_container_says_who_it_is() {
    let fleet = fleet().await;
    for container in fleet.containers() {
        for answer in [get(container, "/").await, get_h2(container, "/").await] {
            assert_eq!(answer.header("x-upstream"), container.name());
            assert_eq!(answer.text(), format!("hello from {}\n", container.name()));
        }
    }
}

#[tokio::test]
async fn served_requests_are_counted_without_probes() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    for served in 1..=3 {
        assert_eq!(get(web1, "/").await.header("x-served-count"), served.to_string());
        get(web1, "/health").await;
    }
    assert_eq!((web1.requests(), web1.probes(), web1.accepted()), (3, 3, 6));
    fleet.reset_counters();
    assert_eq!((web1.requests(), web1.probes(), web1.accepted()), (0, 0, 0));
}

#[tokio::test]
async fn health_is_switchable() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    assert_eq!(get(web1, "/health").await.status, StatusCode::OK);
    web1.set_health(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(get(web1, "/health").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(get(web1, "/").await.status, StatusCode::OK);
    web1.set_health(StatusCode::OK);
    web1.set_health_delay(Duration::from_hours(1));
    let mut sender = h1(web1.address()).await;
    let slow = sender.send_request(plain("/health"));
    assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err(), "answered before its delay");
}

#[tokio::test]
async fn crash_resets_every_connection_and_refuses_new_ones() {
    let fleet = fleet().await;
    let web2 = fleet.container("web-2").unwrap();
    let mut idle = TcpStream::connect(web2.address()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: mock\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    let mut silent = TcpStream::connect(web2.address()).await.unwrap();
    eventually(|| web2.connections() == 2).await;

    web2.crash().await;

    assert_eq!(read_out(&mut idle).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(read_out(&mut silent).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(TcpStream::connect(web2.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(web2.connections(), 0);
    assert_eq!(get(&fleet.containers()[0], "/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn recovered_container_answers_on_the_same_port() {
    let fleet = fleet().await;
    let web2 = fleet.container("web-2").unwrap();
    for _ in 0..3 {
        web2.set_health(StatusCode::INTERNAL_SERVER_ERROR);
        web2.crash().await;
        assert!(!web2.is_listening());
        web2.recover().await.unwrap();
        assert!(web2.is_listening());
        assert_eq!(get(web2, "/health").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn refusing_container_keeps_open_connections() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let mut sender = h1(web1.address()).await;
    read(sender.send_request(plain("/")).await.unwrap()).await.unwrap();
    web1.set_fault(Fault::Refuse).await;
    assert_eq!(TcpStream::connect(web1.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    read(sender.send_request(plain("/")).await.unwrap()).await.unwrap();
    web1.recover().await.unwrap();
    get(web1, "/").await;
    read(sender.send_request(plain("/")).await.unwrap()).await.unwrap();
    web1.crash().await;
    assert!(sender.send_request(plain("/")).await.is_err(), "a connection from before outlived the crash");
}

#[tokio::test]
async fn draining_container_closes_after_its_answers() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let mut idle = TcpStream::connect(web1.address()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: mock\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    let mut multiplexed = h2(web1.address()).await;
    let asked = http::Request::get("http://mock/").body(http_body_util::Full::default()).unwrap();
    read(multiplexed.send_request(asked).await.unwrap()).await.unwrap();
    web1.drain();
    read_out(&mut idle).await.1.unwrap();
    eventually(|| multiplexed.is_closed()).await;
    assert_eq!(get(web1, "/health").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(web1, "/").await.header("connection"), "close");
    web1.recover().await.unwrap();
    assert_eq!(get(web1, "/").await.header("connection"), "");
}

#[tokio::test]
async fn flapping_container_goes_and_comes() {
    let fleet = fleet().await;
    let web1 = &fleet.containers()[0];
    let beat = Duration::from_millis(20);
    web1.set_fault(Fault::Flap { up: beat, down: beat }).await;
    for _ in 0..3 {
        eventually(|| !web1.is_listening()).await;
        eventually(|| web1.is_listening()).await;
    }
    web1.recover().await.unwrap();
    assert_eq!(web1.fault(), None);
    assert!(send(web1, plain("/")).await.is_ok());
}

#[tokio::test]
async fn stop_lets_requests_finish() {
    let fleet = fleet().await;
    let web1 = fleet.containers()[0].clone();
    let mut sender = h1(web1.address()).await;
    let slow = tokio::spawn(sender.send_request(plain("/delay/100ms")));
    eventually(|| web1.requests() == 1).await;
    fleet.stop(crate::client::DEADLINE).await;
    assert_eq!(slow.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(TcpStream::connect(web1.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn stop_waits_no_longer_than_its_grace() {
    let fleet = fleet().await;
    let web1 = fleet.containers()[0].clone();
    let mut sender = h1(web1.address()).await;
    let endless = tokio::spawn(sender.send_request(plain("/delay/1h")));
    eventually(|| web1.requests() == 1).await;
    fleet.stop(Duration::from_millis(10)).await;
    endless.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn dropped_fleet_is_gone() {
    let fleet = fleet().await;
    let web1 = fleet.containers()[0].clone();
    let mut open = TcpStream::connect(web1.address()).await.unwrap();
    eventually(|| web1.connections() == 1).await;
    drop(fleet);
    read_out(&mut open).await.1.unwrap();
    eventually(|| web1.connections() == 0).await;
    assert!(!web1.is_listening());
}

#[tokio::test]
async fn fleet_that_cannot_start_says_who_and_where() {
    let taken = fleet().await.containers()[0].clone();
    let holder = fleet().await;
    let port = holder.containers()[0].address().port();
    let clash = FleetOptions { base_port: port, ..FleetOptions::numbered("app", 1) };
    let error = Fleet::start(clash).await.unwrap_err();
    assert_eq!(error.to_string(), format!("app-1 cannot listen on 127.0.0.1:{port}"));
    let twins = FleetOptions { names: vec![taken.name().to_owned(); 2], ..FleetOptions::default() };
    assert!(matches!(Fleet::start(twins).await, Err(StartError::Name(name)) if name == "web-1"));
    let past_the_end = FleetOptions { base_port: u16::MAX, ..FleetOptions::default() };
    assert!(matches!(Fleet::start(past_the_end).await, Err(StartError::Ports { .. } | StartError::Listen { .. })));
}
