//! A body as it arrives: where its data is, and where it ends.
//!
//! Owns how much of it is still to come. Reads nothing itself: bytes are put in front of it.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::chunked::Chunked;
use super::head::Malformed;
use super::length::Length;

/// Takes a body out of a connection's bytes.
#[derive(Debug)]
pub enum Decoder {
    /// So many bytes are left.
    Known(u64),
    /// In chunks.
    Chunked(Chunked),
    /// Everything there is.
    UntilClose,
    /// Its end has been seen.
    Ended,
}

/// The next part of a body.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Some of its bytes; never none.
    Data(Bytes),
    /// The fields after it, and with them its end.
    Trailers(HeaderMap),
    /// The end.
    End,
}

impl Decoder {
    /// For a body that has not begun.
    pub fn new(length: Length) -> Decoder {
        match length {
            Length::NONE => Decoder::Ended,
            Length::Known(length) => Decoder::Known(length),
            Length::Chunked => Decoder::Chunked(Chunked::default()),
            Length::UntilClose => Decoder::UntilClose,
        }
    }

    /// Whether nothing of it is to come.
    pub fn is_ended(&self) -> bool {
        matches!(self, Decoder::Ended)
    }

    /// Bytes that are known to be to come: what a read may make room for.
    pub fn expects(&self) -> u64 {
        match self {
            Decoder::Known(left) => *left,
            Decoder::Chunked(chunked) => chunked.expects(),
            Decoder::UntilClose => u64::MAX,
            Decoder::Ended => 0,
        }
    }

    /// Takes the next part from the front of `input`; `None` if more has to be read for it.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        match self {
            Decoder::Ended => Ok(Some(Piece::End)),
            _ if input.is_empty() => Ok(None),
            Decoder::UntilClose => Ok(Some(Piece::Data(input.split().freeze()))),
            Decoder::Known(left) => {
                let data = take(input, *left);
                *left -= data.len() as u64;
                if *left == 0 {
                    *self = Decoder::Ended;
                }
                Ok(Some(Piece::Data(data)))
            }
            Decoder::Chunked(chunked) => {
                let piece = chunked.decode(input)?;
                if matches!(piece, Some(Piece::Trailers(_) | Piece::End)) {
                    *self = Decoder::Ended;
                }
                Ok(piece)
            }
        }
    }

    /// The connection has ended. Whether the body has, too.
    pub fn close(&mut self) -> bool {
        let whole = matches!(self, Decoder::UntilClose | Decoder::Ended);
        if whole {
            *self = Decoder::Ended;
        }
        whole
    }
}

/// As much of `input` as there is, but not more than `most`.
pub fn take(input: &mut BytesMut, most: u64) -> Bytes {
    let length = usize::try_from(most).map_or(input.len(), |most| most.min(input.len()));
    input.split_to(length).freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_length_leaves_what_follows() {
        let mut decoder = Decoder::new(Length::Known(5));
        let mut input = BytesMut::from("hel");
        assert_eq!(decoder.decode(&mut input), Ok(Some(Piece::Data(Bytes::from("hel")))));
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(!decoder.close(), "two bytes are missing");
        input.extend_from_slice(b"loGET /");
        assert_eq!(decoder.decode(&mut input), Ok(Some(Piece::Data(Bytes::from("lo")))));
        assert!(decoder.is_ended());
        assert_eq!(decoder.decode(&mut input), Ok(Some(Piece::End)));
        assert_eq!(input, "GET /");
    }

    #[test]
    fn without_a_length_the_connection_ends_it() {
        let mut decoder = Decoder::new(Length::UntilClose);
        let mut input = BytesMut::from("all of it");
        assert_eq!(decoder.decode(&mut input), Ok(Some(Piece::Data(Bytes::from("all of it")))));
        assert!(!decoder.is_ended());
        assert!(decoder.close());
        assert_eq!(decoder.decode(&mut input), Ok(Some(Piece::End)));
    }

    #[test]
    fn no_body_has_ended_before_it_begins() {
        assert!(Decoder::new(Length::NONE).is_ended());
    }
}
