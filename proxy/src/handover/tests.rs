//! Both sides in one process: everything but the `exec`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

use super::wire::{BATCH, Message, VERSION, Wire};
use super::*;

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("upgrade.sock");
    (folder, path)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Keys far beyond 2 048 bytes in all.
fn key(number: usize) -> String {
    format!("{number:03} [2001:0db8:0000:0000:0000:ff00:0042:8329%interface-with-a-long-name]:8443")
}

fn keyed(listeners: &[TcpListener]) -> Vec<(String, BorrowedFd<'_>)> {
    listeners.iter().enumerate().map(|(number, listener)| (key(number), listener.as_fd())).collect()
}

/// The old side of one hand-over.
async fn offer_once(offer: &Offer, sockets: &[(String, BorrowedFd<'_>)]) -> Outcome {
    let mut request = offer.accept().await.unwrap();
    assert_eq!(request.pid(), std::process::id());
    request.send(sockets).await.unwrap();
    request.outcome().await
}

#[tokio::test]
async fn forty_listeners_are_served_by_the_new_process_and_no_connection_is_lost() {
    let (_folder, path) = folder();
    let listeners: Vec<_> = (0..40).map(|_| listener()).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let mut waiting = TcpStream::connect(addresses[39]).unwrap();
    let offer = Offer::listen(&path).unwrap();

    let old = async {
        let outcome = offer_once(&offer, &keyed(&listeners)).await;
        drop(listeners);
        outcome
    };
    let new = async {
        let mut inherited = take(&path).await.unwrap();
        let claimed: Vec<_> = (0..40).map(|number| inherited.claim(&key(number)).unwrap()).collect();
        assert!(inherited.claim(&key(0)).is_none());
        assert!(inherited.claim("unknown").is_none());
        inherited.ready().await.unwrap();
        claimed
    };
    let (outcome, claimed) = tokio::join!(old, new);
    assert_eq!(outcome, Outcome::TakenOver);

    for (claimed, address) in claimed.into_iter().zip(addresses) {
        let inherited = TcpListener::from(claimed);
        assert_eq!(inherited.local_addr().unwrap(), address);
        if address == waiting.peer_addr().unwrap() {
            inherited.accept().unwrap().0.write_all(b"!").unwrap();
        }
    }
    assert_eq!(waiting.read(&mut [0; 2]).unwrap(), 1);
}

#[tokio::test]
async fn more_sockets_than_a_message_carries_arrive_in_order() {
    let (_folder, path) = folder();
    let (odd, even) = (listener(), listener());
    let listener_of = |number: usize| if number % 2 == 1 { &odd } else { &even };
    let sockets: Vec<_> = (0..BATCH + 50).map(|number| (key(number), listener_of(number).as_fd())).collect();
    let offer = Offer::listen(&path).unwrap();
    let new = async {
        let mut inherited = take(&path).await.unwrap();
        assert_eq!(inherited.unclaimed().count(), BATCH + 50);
        for number in [0, 1, BATCH - 1, BATCH, BATCH + 49] {
            let claimed = TcpListener::from(inherited.claim(&key(number)).unwrap());
            assert_eq!(claimed.local_addr().unwrap(), listener_of(number).local_addr().unwrap());
        }
        inherited.ready().await.unwrap();
    };
    assert_eq!(tokio::join!(offer_once(&offer, &sockets), new).0, Outcome::TakenOver);
}

#[tokio::test]
async fn process_without_listeners_is_taken_over_too() {
    let (_folder, path) = folder();
    let offer = Offer::listen(&path).unwrap();
    let new = async { take(&path).await.unwrap().ready().await.unwrap() };
    assert_eq!(tokio::join!(offer_once(&offer, &[]), new).0, Outcome::TakenOver);
}

#[tokio::test]
async fn failing_new_process_leaves_the_offer_for_another_try() {
    let (_folder, path) = folder();
    let listeners = [listener()];
    let sockets = keyed(&listeners);
    let offer = Offer::listen(&path).unwrap();

    let says_why = async { take(&path).await.unwrap().failed("the config has problems").await.unwrap() };
    let (outcome, ()) = tokio::join!(offer_once(&offer, &sockets), says_why);
    assert_eq!(outcome, Outcome::Failed("the config has problems".to_owned()));

    let dies = async { drop(take(&path).await.unwrap()) };
    let (outcome, ()) = tokio::join!(offer_once(&offer, &sockets), dies);
    assert_eq!(outcome, Outcome::Failed("the new process went away".to_owned()));

    let serves = async { take(&path).await.unwrap().ready().await.unwrap() };
    let (outcome, ()) = tokio::join!(offer_once(&offer, &sockets), serves);
    assert_eq!(outcome, Outcome::TakenOver);
}

#[tokio::test]
async fn new_process_that_takes_too_long_is_told_so() {
    let (_folder, path) = folder();
    let listeners = [listener()];
    let offer = Offer::listen(&path).unwrap();
    let old = async {
        let mut request = offer.accept().await.unwrap();
        request.send(&keyed(&listeners)).await.unwrap();
        request
    };
    let (request, inherited) = tokio::join!(old, take(&path));

    tokio::time::pause();
    assert_eq!(request.outcome().await, Outcome::Failed("silent for 60s".to_owned()));
    tokio::time::resume();
    assert!(matches!(inherited.unwrap().ready().await, Err(HandoverError::Refused { .. })));
}

#[tokio::test]
async fn new_process_serves_on_when_the_old_one_dies_before_letting_go() {
    let (_folder, path) = folder();
    let offer = Offer::listen(&path).unwrap();
    let old = async {
        let mut request = offer.accept().await.unwrap();
        request.send(&[]).await.unwrap();
    };
    let ((), inherited) = tokio::join!(old, take(&path));
    inherited.unwrap().ready().await.unwrap();
}

#[tokio::test]
async fn other_version_is_refused_with_a_reason_and_the_next_one_served() {
    let (_folder, path) = folder();
    let offer = Offer::listen(&path).unwrap();
    let new = async {
        let mut stranger = Wire::new(UnixStream::connect(&path).await.unwrap());
        stranger.write(&Message::Hello { version: VERSION + 1, pid: 1 }).await.unwrap();
        let answer = stranger.read(STEP).await.unwrap();
        assert_eq!(answer, Message::Refused { reason: "it speaks version 2, we speak 1".to_owned() });
        take(&path).await.unwrap().ready().await.unwrap();
    };
    assert_eq!(tokio::join!(offer_once(&offer, &[]), new).0, Outcome::TakenOver);
}

#[tokio::test]
async fn refusal_and_missing_descriptors_are_errors_of_the_new_process() {
    let (_folder, path) = folder();
    let listening = UnixListener::bind(&path).unwrap();
    let accept = async || {
        let mut old = Wire::new(listening.accept().await.unwrap().0);
        assert_eq!(old.read(STEP).await.unwrap(), Message::Hello { version: VERSION, pid: std::process::id() });
        old
    };
    let refuse = async {
        accept().await.write(&Message::Refused { reason: "no".to_owned() }).await.unwrap();
    };
    let (refused, ()) = tokio::join!(take(&path), refuse);
    assert_eq!(refused.unwrap_err().to_string(), "the running process keeps its sockets: no");

    let cheat = async {
        let mut old = accept().await;
        old.write(&Message::Sockets { keys: vec![key(0), key(1)] }).await.unwrap();
        old.write_descriptors(&[listener().as_fd()]).await.unwrap();
    };
    let (cheated, ()) = tokio::join!(take(&path), cheat);
    assert!(matches!(cheated.unwrap_err(), HandoverError::Incomplete { expected: 2, received: 1 }));
}

#[tokio::test]
async fn nobody_there_means_a_cold_start() {
    let (_folder, path) = folder();
    assert!(matches!(take(&path).await, Err(HandoverError::NobodyThere)));
    // A dead process leaves its file behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(take(&path).await, Err(HandoverError::NobodyThere)));
}

#[tokio::test]
async fn socket_file_is_private_replaces_a_stale_one_and_goes_with_its_offer() {
    let (folder, path) = folder();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let old = Offer::listen(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let new = Offer::listen(&path).unwrap();
    drop(old);
    assert!(path.exists(), "the successor's file stays");
    drop(new);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn draft_disturbs_nobody_and_leaves_nothing() {
    let (folder, path) = folder();
    let _running = Offer::listen(&path).unwrap();
    let inode = path.metadata().unwrap().ino();
    drop(Offer::draft(&path).unwrap());
    assert_eq!(path.metadata().unwrap().ino(), inode);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    let _successor = Offer::draft(&path).unwrap().place().unwrap();
    assert_ne!(path.metadata().unwrap().ino(), inode);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[tokio::test]
async fn file_that_is_no_socket_is_left_alone() {
    let (_folder, path) = folder();
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(Offer::listen(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_run_as_spawned_tasks() {
    let (_folder, path) = folder();
    let offer = Offer::listen(&path).unwrap();
    let listeners = vec![listener()];
    let old = tokio::spawn(async move { offer_once(&offer, &keyed(&listeners)).await });
    let new = tokio::spawn(async move { take(&path).await?.ready().await });
    new.await.unwrap().unwrap();
    assert_eq!(old.await.unwrap(), Outcome::TakenOver);
}
