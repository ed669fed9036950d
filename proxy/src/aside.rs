//! Work that takes a while and that nobody waits for steps back: whoever carries requests comes first.
//!
//! Owns the thread on which it is done. What is started there (a thread, a process) would step back, too, and so does not
//! belong there.

use std::panic::resume_unwind;
use std::thread;

use rustix::process::setpriority_process;
use tokio::runtime::Handle;

/// How nice it is: whoever wants to be served is not to wait for the end of a time slice, but even where every processor is
/// busy a tenth of one is left for this.
const FAR_BACK: i32 = 10;

/// Does it on a thread of its own, in the caller's runtime if there is one, whose clock it then shares; returns when it is
/// done. Blocks.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let mut work = Some(work);
    let runtime = Handle::try_current().ok();
    let done = thread::scope(|scope| {
        let stepped_back = || {
            // Of this thread alone (setpriority(2)). If it fails, the work is done all the same.
            let _ = setpriority_process(None, FAR_BACK);
            let _runtime = runtime.as_ref().map(Handle::enter);
            work.take().map(|work| work())
        };
        let thread = thread::Builder::new().name("aside".to_owned()).spawn_scoped(scope, stepped_back);
        thread.ok().and_then(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    // Without a thread to be had it is done here.
    done.or_else(|| work.map(|work| work())).expect("it was done there, or is left to be done here")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_the_work_steps_back() {
        let (here, text) = (getpriority_process(None).unwrap(), "what it is about".to_owned());
        let (there, length) = run(|| (getpriority_process(None).unwrap(), text.len()));
        assert_eq!((there, length), (FAR_BACK, text.len()));
        assert_eq!(getpriority_process(None).unwrap(), here);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_the_same_there() {
        let clock = || tokio::time::Instant::now();
        let here = clock();
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(run(clock) - here, Duration::from_hours(1));
    }
}
