//! Heads and bodies as bytes to be sent.
//!
//! Owns how a body is framed on its way out, and sees that it is as long as its head says. Writes to memory only.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, request, response};
use hyper::ext::ReasonPhrase;

use super::length::Length;
use super::outbox::Outbox;
use super::trailers;

/// The head of a request; its fields say how its body is framed.
pub fn request_head(out: &mut Vec<u8>, head: &request::Parts) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.starts_with('?') {
        // An absolute target need not have a path (RFC 9112 section 3.2.1).
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(out, &head.headers);
}

/// The head of a response up to its fields' end, which [`end_head`] writes. `version` is the client's.
pub fn response_head(out: &mut Vec<u8>, head: &response::Parts, version: Version) {
    if head.status == StatusCode::OK && version == Version::HTTP_11 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(head));
        out.extend_from_slice(b"\r\n");
    }
    fields(out, &head.headers);
}

fn reason(head: &response::Parts) -> &[u8] {
    match head.extensions.get::<ReasonPhrase>() {
        Some(own) => own.as_bytes(),
        None => head.status.canonical_reason().unwrap_or("").as_bytes(),
    }
}

fn fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        field(out, name.as_str(), value.as_bytes());
    }
}

/// One field line.
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The field that says how the body is framed, unless the head has it already.
pub fn framing_field(out: &mut Vec<u8>, length: Length) {
    match length {
        Length::Known(length) => {
            field(out, "content-length", itoa(length, &mut [0; 20]));
        }
        Length::Chunked => field(out, "transfer-encoding", b"chunked"),
        Length::UntilClose => {}
    }
}

/// The empty line.
pub fn end_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

fn itoa(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789"[usize::try_from(number % 10).unwrap_or_default()];
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

/// Frames a body on its way out.
#[derive(Debug)]
pub enum Encoder {
    /// So many bytes are left to be sent.
    Known(u64),
    /// In chunks; the trailers are kept back from those who did not ask for them.
    Chunked {
        /// Whether the recipient takes trailers.
        trailers: bool,
    },
    /// Ends with the connection.
    UntilClose,
    /// There is none, whatever comes (a response to HEAD).
    None,
}

/// A body is longer or shorter than its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not as long as its head says")]
pub struct WrongLength;

impl Encoder {
    /// For a body of this length.
    pub fn new(length: Length) -> Encoder {
        match length {
            Length::Known(length) => Encoder::Known(length),
            Length::Chunked => Encoder::Chunked { trailers: true },
            Length::UntilClose => Encoder::UntilClose,
        }
    }

    /// Adds data to what is to be sent.
    pub fn data(&mut self, out: &mut Outbox, data: Bytes) -> Result<(), WrongLength> {
        if data.is_empty() {
            return Ok(());
        }
        match self {
            Encoder::None => return Ok(()),
            Encoder::UntilClose => {}
            Encoder::Known(left) => *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?,
            Encoder::Chunked { .. } => {
                chunk_size(out.bytes(), data.len());
                out.push(data);
                out.push_tail(b"\r\n");
                return Ok(());
            }
        }
        out.push(data);
        Ok(())
    }

    /// Whether data goes out as it is.
    pub fn is_plain(&self) -> bool {
        matches!(self, Encoder::Known(_))
    }

    /// Data has gone out past the outbox.
    pub fn passed(&mut self, bytes: usize) -> Result<(), WrongLength> {
        let Encoder::Known(left) = self else { return Err(WrongLength) };
        *left = left.checked_sub(bytes as u64).ok_or(WrongLength)?;
        Ok(())
    }

    /// Adds the end.
    pub fn end(&mut self, out: &mut Outbox, fields_after: Option<&HeaderMap>) -> Result<(), WrongLength> {
        match self {
            Encoder::Known(1..) => Err(WrongLength),
            Encoder::Chunked { trailers } => {
                let out = out.bytes();
                out.extend_from_slice(b"0\r\n");
                let wanted = fields_after.filter(|_| *trailers).into_iter().flatten();
                for (name, value) in wanted.filter(|(name, _)| !trailers::is_forbidden(name)) {
                    field(out, name.as_str(), value.as_bytes());
                }
                end_head(out);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (4 * digit) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn heads_are_lines() {
        let request = Request::post("/a?b").header("x", "1").header("X", "2").body(()).unwrap().into_parts().0;
        assert_eq!(text(|out| request_head(out, &request)), "POST /a?b HTTP/1.1\r\nx: 1\r\nx: 2\r\n");
        let request = Request::get("http://x?a").body(()).unwrap().into_parts().0;
        assert_eq!(text(|out| request_head(out, &request)), "GET /?a HTTP/1.1\r\n");
        let response = |status: u16| Response::builder().status(status).body(()).unwrap().into_parts().0;
        assert_eq!(text(|out| response_head(out, &response(200), Version::HTTP_11)), "HTTP/1.1 200 OK\r\n");
        assert_eq!(text(|out| response_head(out, &response(200), Version::HTTP_10)), "HTTP/1.0 200 OK\r\n");
        assert_eq!(text(|out| response_head(out, &response(404), Version::HTTP_11)), "HTTP/1.1 404 Not Found\r\n");
        assert_eq!(text(|out| response_head(out, &response(299), Version::HTTP_11)), "HTTP/1.1 299 \r\n");
        assert_eq!(text(|out| framing_field(out, Length::Known(0))), "content-length: 0\r\n");
        assert_eq!(text(|out| framing_field(out, Length::Known(u64::MAX))), "content-length: 18446744073709551615\r\n");
        assert_eq!(text(|out| framing_field(out, Length::Chunked)), "transfer-encoding: chunked\r\n");
    }

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for size in [1, 9, 10, 15, 16, 255, 256, 65_536, usize::MAX] {
            assert_eq!(text(|out| chunk_size(out, size)), format!("{size:x}\r\n"));
        }
    }

    #[test]
    fn a_body_of_another_length_is_found_out() {
        let mut out = Outbox::default();
        assert_eq!(Encoder::new(Length::Known(3)).data(&mut out, Bytes::from("four")), Err(WrongLength));
        let mut encoder = Encoder::new(Length::Known(3));
        assert_eq!(encoder.data(&mut out, Bytes::from("ab")), Ok(()));
        assert_eq!(encoder.end(&mut out, None), Err(WrongLength));
        assert_eq!(encoder.data(&mut out, Bytes::from("c")), Ok(()));
        assert_eq!(encoder.end(&mut out, None), Ok(()));
    }
}
