//! What an operator hears of, for who listens now and for who asks later: the lines of the log from `info` on.
//!
//! Owns the last few hundred of them, whatever the log's own level is. Decides nothing: what is worth a line is said where
//! it happens, once, and is an event by that.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::timestamp::Timestamp;

/// How many are kept.
const KEPT: usize = 500;

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Counts up from 1 with each event of the process.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// What happened, in words that are always the same.
    pub message: String,
    /// To what, and why.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The events of this process.
#[derive(Debug, Clone)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<VecDeque<Arc<Event>>>,
    /// The id of the last one.
    last: watch::Sender<u64>,
}

/// Somebody who listens.
#[derive(Debug)]
pub struct Listening {
    events: Events,
    news: watch::Receiver<u64>,
    /// The last one that was heard.
    heard: u64,
}

impl Default for Events {
    fn default() -> Events {
        Events(Arc::new(Inner { kept: Mutex::default(), last: watch::Sender::new(0) }))
    }
}

impl Events {
    /// All after the one with this id that are still kept, oldest first; 0 for all.
    pub fn after(&self, id: u64) -> Vec<Arc<Event>> {
        let id = self.own(id);
        self.0.kept.lock().iter().filter(|event| event.id > id).cloned().collect()
    }

    /// From the one after this id on, for ever.
    pub fn listen(&self, id: u64) -> Listening {
        Listening { events: self.clone(), news: self.0.last.subscribe(), heard: self.own(id) }
    }

    /// An id that has not come yet is of an earlier process: of this one, nothing was heard.
    fn own(&self, id: u64) -> u64 {
        if id > *self.0.last.borrow() { 0 } else { id }
    }

    fn keep(&self, level: &'static str, (message, fields): (String, Map<String, Value>)) {
        let mut kept = self.0.kept.lock();
        let id = *self.0.last.borrow() + 1;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::new(Event { id, at: Timestamp(SystemTime::now()), level, message, fields }));
        // Before the lock is gone, so that ids are in order.
        self.0.last.send_replace(id);
    }
}

impl Listening {
    /// What has happened since the last call, at least one event. Who is too slow misses what is kept no more.
    pub async fn next(&mut self) -> Vec<Arc<Event>> {
        // The sender lives in `events`.
        let _ = self.news.wait_for(|last| *last > self.heard).await;
        let news = self.events.after(self.heard);
        self.heard = news.last().map_or(self.heard, |event| event.id);
        news
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        };
        self.keep(level, (words.message, words.fields));
    }
}

/// What an event says.
#[derive(Default)]
struct Words {
    message: String,
    fields: Map<String, Value>,
}

impl Words {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.put(field, text.into()) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn say(events: &Events, count: u64) {
        with_default(tracing_subscriber::registry().with(events.clone()), || {
            (0..count).for_each(|number| tracing::info!(number, service = %"shop", "endpoint health"));
        });
    }

    #[test]
    fn event_says_what_the_line_of_the_log_says() {
        let events = Events::default();
        say(&events, 1);
        let event = serde_json::to_value(&*events.after(0)[0]).unwrap();
        assert_eq!(
            (&event["id"], &event["level"], &event["message"]),
            (&1.into(), &"info".into(), &"endpoint health".into())
        );
        assert_eq!((&event["number"], &event["service"]), (&0.into(), &"shop".into()));
    }

    #[test]
    fn last_ones_are_kept() {
        let events = Events::default();
        say(&events, 600);
        let ids: Vec<_> = events.after(0).iter().map(|event| event.id).collect();
        assert_eq!((ids.len(), ids[0], ids[499]), (500, 101, 600));
        assert_eq!(events.after(598).len(), 2);
        assert!(events.after(600).is_empty());
    }

    #[tokio::test]
    async fn listener_hears_each_once_from_where_it_left_off() {
        let events = Events::default();
        say(&events, 3);
        let mut listening = events.listen(1);
        let ids = |news: Vec<Arc<Event>>| news.iter().map(|event| event.id).collect::<Vec<_>>();
        assert_eq!(ids(listening.next().await), [2, 3]);
        say(&events, 1);
        assert_eq!(ids(listening.next().await), [4]);
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), listening.next());
        assert!(waiting.await.is_err(), "nothing has happened");
    }

    #[tokio::test]
    async fn who_has_heard_more_of_an_earlier_process_misses_nothing_of_this_one() {
        let events = Events::default();
        say(&events, 3);
        let ids = |news: Vec<Arc<Event>>| news.iter().map(|event| event.id).collect::<Vec<_>>();
        let mut listening = events.listen(1_000);
        assert_eq!(ids(listening.next().await), [1, 2, 3]);
        say(&events, 1);
        assert_eq!(ids(listening.next().await), [4]);
        assert_eq!(ids(events.after(1_000)), [1, 2, 3, 4]);
    }
}
