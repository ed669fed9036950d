//! How long is a body? RFC 9112 section 6, without the guesses that it allows.
//!
//! Pure. Two answers to the question are one too many: they are [`Ambiguous`].

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request, response};

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Known(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Responses only: with the connection.
    UntilClose,
}

impl Length {
    /// Nothing follows the head.
    pub const NONE: Length = Length::Known(0);
}

/// The head says two things, or nothing that can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the length of the body is ambiguous")]
pub struct Ambiguous;

/// Of a request's body (section 6.3).
pub fn of_request(head: &request::Parts) -> Result<Length, Ambiguous> {
    match (head.headers.get(header::TRANSFER_ENCODING), content_length(&head.headers)?) {
        (None, length) => Ok(Length::Known(length.unwrap_or(0))),
        // HTTP/1.0 knows no transfer codings: its recipients would see another body (section 6.1).
        (Some(_), None) if head.version == Version::HTTP_11 && is_chunked(&head.headers) => Ok(Length::Chunked),
        (Some(_), _) => Err(Ambiguous),
    }
}

/// Of the body of a response to a request with this method.
pub fn of_response(head: &response::Parts, method: &Method) -> Result<Length, Ambiguous> {
    let length = content_length(&head.headers)?;
    if has_no_body(head.status, method) {
        return Ok(Length::NONE);
    }
    match (head.headers.contains_key(header::TRANSFER_ENCODING), length) {
        (false, Some(length)) => Ok(Length::Known(length)),
        (false, None) => Ok(Length::UntilClose),
        (true, None) if head.version == Version::HTTP_11 && is_chunked(&head.headers) => Ok(Length::Chunked),
        (true, _) => Err(Ambiguous),
    }
}

/// Whatever its fields say (RFC 9110 sections 6.4.1 and 9.3.2).
pub fn has_no_body(status: StatusCode, method: &Method) -> bool {
    method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// What `Content-Length` says, if it says one thing.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Ambiguous> {
    let mut fields = headers.get_all(header::CONTENT_LENGTH).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => digits(only).map(Some).ok_or(Ambiguous),
        (Some(_), Some(_)) => Err(Ambiguous),
    }
}

/// Digits and nothing else: no sign, no blank, no list.
fn digits(value: &HeaderValue) -> Option<u64> {
    let bytes = value.as_bytes();
    let digit = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if bytes.is_empty() { None } else { bytes.iter().try_fold(0, digit) }
}

/// Exactly `chunked`: any other coding would have to be undone, and is lost with this hop's fields.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = |field: &HeaderValue| field.as_bytes().eq_ignore_ascii_case(b"chunked");
    fields.next().is_some_and(chunked) && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};

    #[track_caller]
    fn check_request(fields: &[(&str, &str)], expected: Result<Length, Ambiguous>) {
        let request = fields.iter().fold(Request::post("/"), |request, (name, value)| request.header(*name, *value));
        assert_eq!(of_request(&request.body(()).unwrap().into_parts().0), expected, "{fields:?}");
    }

    #[test]
    fn a_request_has_one_length_or_none() {
        check_request(&[], Ok(Length::NONE));
        check_request(&[("content-length", "42")], Ok(Length::Known(42)));
        check_request(&[("transfer-encoding", "chunked")], Ok(Length::Chunked));
        check_request(&[("transfer-encoding", "Chunked")], Ok(Length::Chunked));
        check_request(&[("content-length", "18446744073709551615")], Ok(Length::Known(u64::MAX)));
        for value in ["", "+1", "-1", "1,1", "1 1", "0x1", "1.0", "18446744073709551616"] {
            check_request(&[("content-length", value)], Err(Ambiguous));
        }
        for value in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "", "chunked;q=1"] {
            check_request(&[("transfer-encoding", value)], Err(Ambiguous));
        }
        check_request(&[("content-length", "1"), ("content-length", "1")], Err(Ambiguous));
        check_request(&[("content-length", "1"), ("transfer-encoding", "chunked")], Err(Ambiguous));
        check_request(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Err(Ambiguous));
    }

    #[track_caller]
    fn check_response(status: u16, method: &Method, fields: &[(&str, &str)], expected: Result<Length, Ambiguous>) {
        let response = Response::builder().status(status);
        let response = fields.iter().fold(response, |response, (name, value)| response.header(*name, *value));
        let head = response.body(()).unwrap().into_parts().0;
        assert_eq!(of_response(&head, method), expected, "{status} {method} {fields:?}");
    }

    #[test]
    fn a_response_ends_by_length_chunk_or_connection() {
        let (get, head) = (&Method::GET, &Method::HEAD);
        let (length, chunked) = (("content-length", "7"), ("transfer-encoding", "chunked"));
        check_response(200, get, &[], Ok(Length::UntilClose));
        check_response(200, get, &[length], Ok(Length::Known(7)));
        check_response(200, get, &[chunked], Ok(Length::Chunked));
        check_response(200, head, &[length], Ok(Length::NONE));
        check_response(200, head, &[chunked], Ok(Length::NONE));
        check_response(204, get, &[length], Ok(Length::NONE));
        check_response(304, get, &[length], Ok(Length::NONE));
        check_response(101, get, &[], Ok(Length::NONE));
        check_response(200, get, &[length, chunked], Err(Ambiguous));
        check_response(200, get, &[("transfer-encoding", "gzip, chunked")], Err(Ambiguous));
        check_response(200, get, &[("content-length", "7, 7")], Err(Ambiguous));
    }
}
