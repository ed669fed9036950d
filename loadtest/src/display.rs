//! What is shown while a load runs: a bar on a terminal, a line a second otherwise; and the stop by Ctrl-C.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use loadtest::load::Watch;
use tokio::sync::oneshot;

/// Runs what `begin` makes and shows its progress, which starts when the load's handle is given to the argument of
/// `begin`. The first Ctrl-C or SIGTERM stops the load, so that there is a report of what was seen so far.
pub(crate) async fn during<F, T>(quiet: bool, begin: F) -> T::Output
where
    F: FnOnce(Box<dyn FnOnce(Watch)>) -> T,
    T: Future,
{
    let (send, receive) = oneshot::channel();
    // The receiver lives as long as the task below.
    let work = begin(Box::new(move |watch| drop(send.send(watch))));
    let companion = async {
        let Ok(watch) = receive.await else { return };
        tokio::join!(show(quiet, &watch), stop_when_told(&watch));
    };
    tokio::select! {
        biased;
        done = work => done,
        () = async { companion.await; std::future::pending().await } => unreachable!("it stays pending"),
    }
}

async fn stop_when_told(watch: &Watch) {
    told_to_stop().await;
    watch.stop();
}

/// Waits for Ctrl-C or SIGTERM and names it.
pub(crate) async fn told_to_stop() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
    }
}

async fn show(quiet: bool, watch: &Watch) {
    if quiet {
        return;
    }
    if io::stderr().is_terminal() { bar(watch).await } else { lines(watch).await }
}

async fn bar(watch: &Watch) {
    let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {msg}").expect("the template is constant");
    let length = u64::try_from(watch.length().as_millis()).unwrap_or(u64::MAX);
    let bar = ProgressBar::new(length).with_style(style);
    let mut pulse = Pulse::default();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bar.set_position(u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX));
        bar.set_message(pulse.line(watch));
    }
}

async fn lines(watch: &Watch) {
    let mut pulse = Pulse::default();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Progress is a courtesy; a closed standard error is no reason to stop.
        let _ = writeln!(io::stderr(), "{:>5.1} s  {}", watch.elapsed().as_secs_f64(), pulse.line(watch));
    }
}

/// Turns counts into rates.
#[derive(Default)]
struct Pulse {
    done: u64,
    at: Duration,
}

impl Pulse {
    fn line(&mut self, watch: &Watch) -> String {
        let (done, at) = (watch.done(), watch.elapsed());
        let seconds = at.saturating_sub(self.at).as_secs_f64().max(1e-3);
        let rate = (done - self.done) as f64 / seconds;
        (self.done, self.at) = (done, at);
        format!("{done} done, {rate:.0}/s, {} failed", watch.failed())
    }
}
