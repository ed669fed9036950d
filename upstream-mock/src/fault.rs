//! How a container can fail, and how a fault is written.
//!
//! A fault is written alike in the header `x-mock-fault`, in the control API and here: `hang`, `slow=500ms`,
//! `status=503`, `flap=up:2s,down:2s`. This file parses; it never acts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;

/// One way to fail.
///
/// A request is *executed* once the container has received all of it; only executed requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `reset_before_head`: RST as soon as the request's head is there. Not executed.
    ResetBeforeHead,
    /// `reset_after_execution`: the request is executed, then RST instead of an answer.
    ResetAfterExecution,
    /// `reset_in_body`: executed; head and half of a body with a content-length, then RST.
    ResetInBody,
    /// `truncated_chunked`: executed; a chunked body that ends with a FIN instead of its last chunk.
    TruncatedChunked,
    /// `hang`: executed, and never answered.
    Hang,
    /// `slow=500ms`: executed, and answered that much later.
    Slow(Duration),
    /// `status=503`: executed, and answered with this status.
    Status(StatusCode),
    /// `slow_body=50ms`: executed, and answered at once, but for so long a pause before each of the first eight pieces
    /// of the body.
    SlowBody(Duration),
    /// `wrong_length`: executed; half of the body that the content-length promises, then a FIN.
    WrongLength,
    /// `excess`: executed and answered, with the bytes of one more answer, which nobody asked for, right behind.
    /// HTTP/1.1 only.
    Excess,
    /// `garbage`: executed, and answered by bytes that are no HTTP.
    Garbage,
    /// `blackhole`: takes connections and requests, `/health` too, and neither executes nor answers any.
    Blackhole,
    /// `freeze`: as by SIGSTOP: accepts, reads and writes nothing, `/health` included; goes on where it was after that.
    Freeze,
    /// `refuse`: the listener closes, open connections go on.
    Refuse,
    /// `crash`: as by kill -9: the listener closes and every connection is reset.
    Crash,
    /// `flap=up:2s,down:2s`: crashes after `up`, recovers after `down`, and so on.
    Flap {
        /// How long the container stays up each time.
        up: Duration,
        /// How long it stays down each time.
        down: Duration,
    },
    /// `health=500`: `/health` answers with this status; requests are answered as before.
    Health(StatusCode),
    /// `flap_health=up:2s,down:2s`: `/health` answers 200 for `up`, 503 for `down`, and so on.
    FlapHealth {
        /// How long the container says that it is well each time.
        up: Duration,
        /// How long it says that it is not.
        down: Duration,
    },
}

/// Why a fault could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The word before `=` names no fault.
    #[error(
        "`{0}` is no fault; there are reset_before_head, reset_after_execution, reset_in_body, truncated_chunked, \
         wrong_length, excess, hang, blackhole, freeze, slow=500ms, slow_body=50ms, status=503, garbage, refuse, crash, \
         flap=up:2s,down:2s, health=500 and flap_health=up:2s,down:2s"
    )]
    Unknown(String),
    /// The word after `=` is missing or does not fit.
    #[error("`{0}` needs a value such as `{1}`")]
    Value(String, &'static str),
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (kind, value) = text.split_once('=').unwrap_or((text, ""));
        let wrong = |example| FaultError::Value(kind.to_owned(), example);
        Ok(match kind.trim() {
            "reset_before_head" => Self::ResetBeforeHead,
            "reset_after_execution" => Self::ResetAfterExecution,
            "reset_in_body" => Self::ResetInBody,
            "truncated_chunked" => Self::TruncatedChunked,
            "hang" => Self::Hang,
            "slow" => Self::Slow(duration(value).ok_or_else(|| wrong("slow=500ms"))?),
            "status" => Self::Status(value.parse().map_err(|_| wrong("status=503"))?),
            "slow_body" => Self::SlowBody(duration(value).ok_or_else(|| wrong("slow_body=50ms"))?),
            "wrong_length" => Self::WrongLength,
            "excess" => Self::Excess,
            "garbage" => Self::Garbage,
            "blackhole" => Self::Blackhole,
            "freeze" => Self::Freeze,
            "refuse" => Self::Refuse,
            "crash" => Self::Crash,
            "flap" => {
                let (up, down) = up_and_down(value).ok_or_else(|| wrong("flap=up:2s,down:2s"))?;
                Self::Flap { up, down }
            }
            "health" => Self::Health(value.parse().map_err(|_| wrong("health=500"))?),
            "flap_health" => {
                let (up, down) = up_and_down(value).ok_or_else(|| wrong("flap_health=up:2s,down:2s"))?;
                Self::FlapHealth { up, down }
            }
            unknown => return Err(FaultError::Unknown(unknown.to_owned())),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResetBeforeHead => f.write_str("reset_before_head"),
            Self::ResetAfterExecution => f.write_str("reset_after_execution"),
            Self::ResetInBody => f.write_str("reset_in_body"),
            Self::TruncatedChunked => f.write_str("truncated_chunked"),
            Self::Hang => f.write_str("hang"),
            Self::Slow(time) => write!(f, "slow={}", written(*time)),
            Self::Status(status) => write!(f, "status={}", status.as_u16()),
            Self::SlowBody(time) => write!(f, "slow_body={}", written(*time)),
            Self::WrongLength => f.write_str("wrong_length"),
            Self::Excess => f.write_str("excess"),
            Self::Garbage => f.write_str("garbage"),
            Self::Blackhole => f.write_str("blackhole"),
            Self::Freeze => f.write_str("freeze"),
            Self::Refuse => f.write_str("refuse"),
            Self::Crash => f.write_str("crash"),
            Self::Flap { up, down } => write!(f, "flap=up:{},down:{}", written(*up), written(*down)),
            Self::Health(status) => write!(f, "health={}", status.as_u16()),
            Self::FlapHealth { up, down } => write!(f, "flap_health=up:{},down:{}", written(*up), written(*down)),
        }
    }
}

/// Reads `500ms`, `2s`, `1m30s`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// Writes without the spaces that humantime puts between units.
pub(crate) fn written(time: Duration) -> String {
    humantime::format_duration(time).to_string().replace(' ', "")
}

fn up_and_down(value: &str) -> Option<(Duration, Duration)> {
    let (mut up, mut down) = (None, None);
    for part in value.split(',') {
        match part.split_once(':')? {
            ("up", time) => up = duration(time),
            ("down", time) => down = duration(time),
            _ => return None,
        }
    }
    Some((up?, down?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, fault: Fault) {
        assert_eq!(text.parse(), Ok(fault));
        assert_eq!(fault.to_string(), text);
    }

    #[test]
    fn each_fault_is_read_as_it_is_written() {
        check("reset_before_head", Fault::ResetBeforeHead);
        check("reset_after_execution", Fault::ResetAfterExecution);
        check("reset_in_body", Fault::ResetInBody);
        check("truncated_chunked", Fault::TruncatedChunked);
        check("hang", Fault::Hang);
        check("slow=1s500ms", Fault::Slow(Duration::from_millis(1500)));
        check("status=503", Fault::Status(StatusCode::SERVICE_UNAVAILABLE));
        check("slow_body=50ms", Fault::SlowBody(Duration::from_millis(50)));
        check("wrong_length", Fault::WrongLength);
        check("excess", Fault::Excess);
        check("garbage", Fault::Garbage);
        check("blackhole", Fault::Blackhole);
        check("freeze", Fault::Freeze);
        check("health=500", Fault::Health(StatusCode::INTERNAL_SERVER_ERROR));
        check(
            "flap_health=up:1s,down:1s",
            Fault::FlapHealth { up: Duration::from_secs(1), down: Duration::from_secs(1) },
        );
        check("refuse", Fault::Refuse);
        check("crash", Fault::Crash);
        check("flap=up:2s,down:500ms", Fault::Flap { up: Duration::from_secs(2), down: Duration::from_millis(500) });
    }

    #[test]
    fn a_misspelt_fault_is_told_what_there_is() {
        let unknown = "hung".parse::<Fault>().unwrap_err();
        assert!(unknown.to_string().contains("hang"), "{unknown}");
        for text in ["slow", "slow=soon", "status=9", "flap=up:2s", "flap=up:2s,sideways:3s", "slow_body", "health=ill"]
        {
            assert!(matches!(text.parse::<Fault>(), Err(FaultError::Value(..))), "{text}");
        }
    }
}
