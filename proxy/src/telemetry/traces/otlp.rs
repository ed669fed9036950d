//! OTLP's messages, as far as we send and read them (opentelemetry-proto 1.x: trace, common, resource, collector).
//!
//! Owns field numbers. Never decides what is in a span.

use std::time::Duration;

use prost::Message;

/// Every export.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

/// The spans of one resource: ours.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

/// Who made the spans.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

/// The spans of one instrumentation: ours.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<Span>,
}

/// What made them.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InstrumentationScope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// One piece of work.
#[derive(Clone, PartialEq, Message)]
#[expect(clippy::struct_field_names, reason = "they are called so in the specification")]
pub(super) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(super) trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) name: String,
    #[prost(enumeration = "SpanKind", tag = "6")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub(super) status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub(super) flags: u32,
}

/// Which side of a request a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SpanKind {
    Unspecified = 0,
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// Whether the work has failed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(enumeration = "StatusCode", tag = "3")]
    pub(super) code: i32,
}

/// The like as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum StatusCode {
    Unset = 0,
    Ok = 1,
    Error = 2,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

/// Its value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3")]
    pub(super) value: Option<Value>,
}

/// The kinds of values that we have.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Value {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
}

impl KeyValue {
    pub(super) fn new(key: &str, value: impl Into<Value>) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value.into()) }) }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

/// The answer to an export.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<ExportTracePartialSuccess>,
}

/// What was not taken of it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTracePartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

/// Why an export failed: `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// A message with its name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RpcStatus {
    /// When the collector wants to be asked again, if it says so.
    pub(super) fn retry_delay(&self) -> Option<Duration> {
        let info = self.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
        let (seconds, nanos) = (u64::try_from(delay.seconds), u32::try_from(delay.nanos));
        Some(Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default().min(999_999_999)))
    }

    /// One that asks for patience, for tests.
    #[cfg(test)]
    pub(super) fn of_delay(delay: Duration) -> RpcStatus {
        let delay =
            Delay { seconds: i64::try_from(delay.as_secs()).unwrap(), nanos: delay.subsec_nanos().cast_signed() };
        let value = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
        let detail = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value };
        RpcStatus { code: 8, message: "slowly".to_owned(), details: vec![detail] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_read_where_there_is_one() {
        let status = RpcStatus::of_delay(Duration::from_millis(1_500));
        let read = RpcStatus::decode(&*status.encode_to_vec()).unwrap();
        assert_eq!(read.retry_delay(), Some(Duration::from_millis(1_500)));
        assert_eq!(RpcStatus::default().retry_delay(), None);
    }

    /// Field numbers and kinds on the wire, by hand from the specification.
    #[test]
    fn bytes_are_those_of_the_specification() {
        let span = Span {
            trace_id: vec![1],
            span_id: vec![2],
            trace_state: "a=b".to_owned(),
            parent_span_id: vec![3],
            name: "n".to_owned(),
            kind: SpanKind::Client as i32,
            start_time_unix_nano: 4,
            end_time_unix_nano: 5,
            attributes: vec![KeyValue::new("k", 7_i64)],
            status: Some(Status { message: "m".to_owned(), code: StatusCode::Error as i32 }),
            flags: 1,
        };
        let expected: Vec<u8> = [
            &[0x0a, 1, 1][..],
            &[0x12, 1, 2],
            &[0x1a, 3, b'a', b'=', b'b'],
            &[0x22, 1, 3],
            &[0x2a, 1, b'n'],
            &[0x30, 3],
            &[0x39, 4, 0, 0, 0, 0, 0, 0, 0],
            &[0x41, 5, 0, 0, 0, 0, 0, 0, 0],
            &[0x4a, 7, 0x0a, 1, b'k', 0x12, 2, 0x18, 7],
            &[0x7a, 5, 0x12, 1, b'm', 0x18, 2],
            &[0x85, 0x01, 1, 0, 0, 0],
        ]
        .concat();
        assert_eq!(span.encode_to_vec(), expected);
    }
}
