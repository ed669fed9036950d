//! Newcomers take turns: one step of one of them between two looks at the sockets.
//!
//! A TLS handshake costs as much as several requests, and so does an HTTP/2 client that only takes requests back. Were all
//! who have come together served in a row, whoever asks for something meanwhile would wait for all of them. Owns the turn
//! of its thread; first come, first served.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

thread_local! {
    static TURNS: Arc<Semaphore> = Arc::new(Semaphore::new(1));
}

/// Runs `opening` step by step, each in its turn, for as long as it `is_new`.
pub(super) async fn step_by_step<F: Future>(opening: F, is_new: impl Fn() -> bool) -> F::Output {
    let turns = TURNS.with(Arc::clone);
    let mut opening = pin!(opening);
    loop {
        // Never closed; and if it were, the step would still be made.
        let turn = if is_new() { Arc::clone(&turns).acquire_owned().await.ok() } else { None };
        let step = poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx))).await;
        if let Some(turn) = turn {
            pass_on(turn);
        }
        match step {
            Poll::Ready(output) => return output,
            Poll::Pending => until_woken().await,
        }
    }
}

/// Whatever the step waits for wakes the whole task.
async fn until_woken() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Lets go of the turn after the sockets have been looked at, and after everybody who is ready by now.
fn pass_on(turn: OwnedSemaphorePermit) {
    let passed_on = Waker::from(Arc::new(Turn(turn)));
    // Tokio wakes whoever yields after it has looked at the sockets.
    let yielded = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&passed_on));
    debug_assert!(yielded.is_pending(), "yields once");
}

/// Passed on when it is dropped, which waking it does.
struct Turn(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Wake for Turn {
    fn wake(self: Arc<Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io::Write;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    /// Two steps that are counted; the second one at once.
    async fn handshake(steps: Rc<Cell<usize>>) {
        for _ in 0..2 {
            let mut made = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut made, true) {
                    return Poll::Ready(());
                }
                steps.set(steps.get() + 1);
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    #[tokio::test]
    async fn whoever_asks_for_something_waits_for_one_step() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().await.unwrap().0;
        let steps = Rc::new(Cell::new(0));
        let inside = async {
            let asked = Rc::clone(&steps);
            let mut handshakes: Vec<_> = (0..50)
                .map(|_| tokio::task::spawn_local(step_by_step(handshake(Rc::clone(&steps)), || true)))
                .collect();
            // Its client asks after all of them have begun to wait.
            handshakes.push(tokio::task::spawn_local(async move {
                client.write_all(b"?").unwrap();
                let before = asked.get();
                server.read_u8().await.unwrap();
                assert!(asked.get() - before <= 2, "{} steps", asked.get() - before);
            }));
            for handshake in handshakes {
                handshake.await.unwrap();
            }
        };
        LocalSet::new().run_until(inside).await;
        assert_eq!(steps.get(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_holds_up_nobody() {
        let steps = Rc::new(Cell::new(0));
        let second = Duration::from_secs(1);
        let stuck = tokio::time::timeout(second, step_by_step(std::future::pending::<()>(), || true));
        let turn = TURNS.with(Arc::clone).acquire_owned().await.unwrap();
        let impatient = tokio::time::timeout(second, step_by_step(handshake(Rc::clone(&steps)), || true));
        let (stuck, impatient) = tokio::join!(stuck, impatient);
        assert!(stuck.is_err() && impatient.is_err());
        drop(turn);
        step_by_step(handshake(Rc::clone(&steps)), || true).await;
        assert_eq!(steps.get(), 2);
    }

    #[tokio::test]
    async fn a_step_that_panics_passes_its_turn_on() {
        let failed = LocalSet::new();
        let panicked = failed
            .run_until(async { tokio::task::spawn_local(step_by_step(async { panic!("as asked") }, || true)).await });
        assert!(panicked.await.is_err());
        step_by_step(async {}, || true).await;
    }
}
