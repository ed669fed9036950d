//! HTTP/2 streams, a task each, and how long one of them may wait for its client.
//!
//! hyper asks for the next part of a response when the client's window has room for the last one. Owns the clock between
//! the two: a client that takes nothing of one response may be busy with the others, and holds an endpoint's connection
//! all the same. Never looks into a part.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

use super::gate::Gate;
use crate::body::{BodyError, ResponseBody};

/// A part of a response: what fits a frame of the default size (RFC 9113 section 6.5.2).
const PART: usize = 16 * 1024;

/// How far a stream has come with its response.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    /// Parts that were given out.
    parts: u64,
    /// Whether the client has room for the last one.
    taken: bool,
}

tokio::task_local! {
    static GIVEN: Cell<Given>;
}

/// Spawns streams, and ends those whose client takes nothing for too long.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    limit: Duration,
    gate: Arc<Gate>,
}

impl Streams {
    /// Of a listener's connection.
    pub(super) fn new(limit: Duration, gate: &Arc<Gate>) -> Streams {
        Streams { limit, gate: Arc::clone(gate) }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (limit, gate) = (self.limit, Arc::clone(&self.gate));
        let given = Cell::new(Given { parts: 0, taken: true });
        tokio::spawn(GIVEN.scope(given, async move {
            if attend(stream, limit).await.is_none() {
                gate.metrics.refused("send_timeout");
            }
        }));
    }
}

/// Runs a stream to its end; `None` if its client has taken nothing for too long. Dropping it resets it.
async fn attend<F: Future>(stream: F, limit: Duration) -> Option<F::Output> {
    let mut stream = pin!(stream);
    let mut patience = Patience { limit, last: None, clock: None };
    poll_fn(|cx| match stream.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => patience.poll_over(cx).map(|()| None),
    })
    .await
}

/// How long the last part has been waiting. Costs a clock only when a client makes us wait.
struct Patience {
    limit: Duration,
    /// The last part, and when the client is to have taken it.
    last: Option<(u64, Instant)>,
    clock: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let given = GIVEN.with(Cell::get);
        if given.taken {
            return Poll::Pending;
        }
        let due = match self.last {
            Some((part, due)) if part == given.parts => due,
            _ => Instant::now() + self.limit,
        };
        self.last = Some((given.parts, due));
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            ready!(clock.as_mut().poll(cx));
            if clock.deadline() >= due {
                return Poll::Ready(());
            }
            // It was set for an earlier part.
            clock.as_mut().reset(due);
        }
    }
}

/// The body of a response, in parts, so that a client need not take much to be seen to take something.
#[derive(Debug)]
pub(super) struct Parts {
    body: ResponseBody,
    rest: Bytes,
}

impl Parts {
    /// All of a body.
    pub(super) fn of(body: ResponseBody) -> Parts {
        Parts { body, rest: Bytes::new() }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        note(|given| Given { taken: true, ..given });
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(PART);
        note(|given| Given { parts: given.parts + 1, taken: false });
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for before the first part.
        self.body.size_hint()
    }
}

fn note(change: impl FnOnce(Given) -> Given) {
    // A body that is read elsewhere has nobody who waits.
    let _ = GIVEN.try_with(|given| given.set(change(given.get())));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    /// A stream whose client takes a part after each of these times, and then nothing any more.
    async fn taking(times: &[u64]) -> Option<()> {
        let stream = async {
            for seconds in times {
                note(|given| Given { parts: given.parts + 1, taken: false });
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                note(|given| Given { taken: true, ..given });
                // The endpoint's turn: it has limits of its own.
                tokio::time::sleep(Duration::from_mins(5)).await;
            }
        };
        GIVEN.scope(Cell::new(Given { parts: 0, taken: true }), attend(stream, LIMIT)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_take_its_time_for_each_part_but_not_for_ever() {
        assert_eq!(taking(&[]).await, Some(()));
        assert_eq!(taking(&[59, 1, 59]).await, Some(()));
        let begun = Instant::now();
        assert_eq!(taking(&[10, 61]).await, None);
        assert_eq!(begun.elapsed().as_secs(), 10 + 300 + 60);
    }
}
