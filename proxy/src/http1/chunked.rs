//! The chunked transfer coding (RFC 9112 section 7.1).
//!
//! Strict: every line ends in CRLF, sizes are hexadecimal digits and nothing else. Extensions are skipped, and counted,
//! for they are a way to send for ever without sending anything.

use super::decode::{Piece, take};
use super::head::{self, Limits, Malformed};
use super::trailers;
use bytes::{Buf, BytesMut};

/// Where a body in chunks stands.
#[derive(Debug, Default)]
pub struct Chunked {
    stage: Stage,
    /// Bytes of extensions and padding so far.
    extensions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// In the digits of a chunk's size.
    Size { size: u64, digits: u8 },
    /// In blanks behind them, which some servers pad sizes with.
    Padding { size: u64 },
    /// In what comes after a semicolon, before the CR.
    Extension { size: u64 },
    /// Before the LF that ends the size's line.
    SizeEnd { size: u64 },
    /// In a chunk's data.
    Data { left: u64 },
    /// Before the CR behind the data.
    DataCr,
    /// Before the LF behind the data.
    DataLf,
    /// Behind the last chunk.
    Trailers,
    /// Behind what is no chunk: where the next one would begin nobody knows.
    Broken,
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::Size { size: 0, digits: 0 }
    }
}

/// In all chunks of a body together.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// Of a trailer section.
const TRAILERS: Limits = Limits { bytes: 16 * 1024, fields: 100 };

impl Chunked {
    /// Bytes of the present chunk that are to come.
    pub fn expects(&self) -> u64 {
        match self.stage {
            Stage::Data { left } => left,
            _ => 0,
        }
    }

    /// Takes the next part from the front of `input`; `None` if more has to be read for it.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        while !input.is_empty() {
            match &mut self.stage {
                Stage::Data { left } => {
                    let data = take(input, *left);
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.stage = Stage::DataCr;
                    }
                    return Ok(Some(Piece::Data(data)));
                }
                Stage::Trailers => return end(input),
                _ => self.step(input.get_u8()).inspect_err(|_| self.stage = Stage::Broken)?,
            }
        }
        Ok(None)
    }

    /// One byte of what is not data.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.stage = match (self.stage, byte) {
            (Stage::Size { size, digits }, _) if byte.is_ascii_hexdigit() => longer(size, digits, byte)?,
            (Stage::Size { size, digits: 1.. } | Stage::Padding { size }, b' ' | b'\t') => self.padded(size)?,
            (Stage::Size { size, digits: 1.. } | Stage::Padding { size }, b';') => Stage::Extension { size },
            (Stage::Size { size, digits: 1.. } | Stage::Padding { size } | Stage::Extension { size }, b'\r') => {
                Stage::SizeEnd { size }
            }
            (Stage::Extension { size }, _) if byte != b'\n' => {
                self.skipped()?;
                Stage::Extension { size }
            }
            (Stage::SizeEnd { size: 0 }, b'\n') => Stage::Trailers,
            (Stage::SizeEnd { size }, b'\n') => Stage::Data { left: size },
            (Stage::DataCr, b'\r') => Stage::DataLf,
            (Stage::DataLf, b'\n') => Stage::default(),
            _ => return Err(Malformed::Syntax),
        };
        Ok(())
    }

    fn padded(&mut self, size: u64) -> Result<Stage, Malformed> {
        self.skipped()?;
        Ok(Stage::Padding { size })
    }

    /// One more byte that means nothing to us.
    fn skipped(&mut self) -> Result<(), Malformed> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS { Err(Malformed::TooLarge) } else { Ok(()) }
    }
}

fn longer(size: u64, digits: u8, byte: u8) -> Result<Stage, Malformed> {
    // Sixteen digits are a u64; more of them, even zeros, are nobody's chunk.
    if digits == 16 {
        return Err(Malformed::Syntax);
    }
    let digit = char::from(byte).to_digit(16).unwrap_or_default();
    Ok(Stage::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
}

fn end(input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
    let Some((mut fields, length)) = head::trailers(input, TRAILERS)? else { return Ok(None) };
    input.advance(length);
    trailers::sift(&mut fields);
    Ok(Some(if fields.is_empty() { Piece::End } else { Piece::Trailers(fields) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    /// Decodes `input` in reads of `step` bytes: data, trailers, and what is left behind the body.
    fn run(input: &[u8], step: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), Malformed> {
        let (mut chunked, mut buffer, mut data) = (Chunked::default(), BytesMut::new(), Vec::new());
        let mut reads = input.chunks(step);
        loop {
            match chunked.decode(&mut buffer)? {
                Some(Piece::Data(more)) => data.extend_from_slice(&more),
                Some(end) => {
                    let trailers = if let Piece::Trailers(fields) = end { fields } else { HeaderMap::new() };
                    buffer.extend(reads.flatten());
                    return Ok((data, trailers, buffer.to_vec()));
                }
                None => match reads.next() {
                    Some(read) => buffer.extend_from_slice(read),
                    None => return Ok((data, HeaderMap::new(), b"more".to_vec())),
                },
            }
        }
    }

    #[track_caller]
    fn check(input: &str, expected: Result<(&str, &str), Malformed>) {
        for step in [1, 2, 3, 7, input.len().max(1)] {
            let seen = run(input.as_bytes(), step);
            let seen = seen.map(|(data, _, rest)| (String::from_utf8(data).unwrap(), String::from_utf8(rest).unwrap()));
            let expected = expected.map(|(data, rest)| (data.to_owned(), rest.to_owned()));
            assert_eq!(seen, expected, "{input:?} in steps of {step}");
        }
    }

    #[test]
    fn chunks_are_joined_and_what_follows_is_left() {
        check("0\r\n\r\n", Ok(("", "")));
        check("5\r\nhello\r\n0\r\n\r\nGET", Ok(("hello", "GET")));
        check("5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n", Ok(("hello, world", "")));
        check("00a\r\n0123456789\r\n0\r\n\r\n", Ok(("0123456789", "")));
        check("A\r\n0123456789\r\n000\r\n\r\n", Ok(("0123456789", "")));
        check("2;name=value\r\nhi\r\n0;last\r\n\r\n", Ok(("hi", "")));
        check("2 ;x\r\nhi\r\n0\r\n\r\n", Ok(("hi", "")));
        check("2  \r\nhi\r\n0\r\n\r\n", Ok(("hi", "")));
        check("2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\nGET", Ok(("hi", "GET")));
        check("5\r\nhel", Ok(("hel", "more")));
        check("5\r\nhello\r\n0\r\n", Ok(("hello", "more")));
    }

    #[test]
    fn whatever_else_it_may_be_is_no_chunk() {
        for input in [
            "\r\n",
            "x\r\n",
            " 5\r\nhello",
            "-1\r\n",
            "+1\r\n",
            "0x5\r\nhello",
            "5\nhello",
            "5\r\r\n",
            "5\rhello",
            "5 x\r\nhello",
            ";x\r\n",
            "5;x\nhello",
            "5\r\nhelloX\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0",
            "5\r\nhello0\r\n",
            "00000000000000000\r\n",
            "10000000000000000\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\nx: 1\n\r\n",
        ] {
            let seen = run(input.as_bytes(), input.len());
            assert_eq!(seen, Err(Malformed::Syntax), "{input:?}");
        }
    }

    #[test]
    fn trailers_are_passed_but_for_those_that_frame_or_authenticate() {
        let input = b"0\r\nx-sum: 1\r\ncontent-length: 5\r\nauthorization: me\r\nx-sum: 2\r\n\r\n";
        let (_, trailers, _) = run(input, 1).unwrap();
        assert_eq!(trailers.len(), 2);
        assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn what_broke_off_stays_broken() {
        let mut chunked = Chunked::default();
        let mut input = BytesMut::from("0\rX\n\r\nGET / HTTP/1.1\r\n\r\n");
        for _ in 0..5 {
            assert_eq!(chunked.decode(&mut input), Err(Malformed::Syntax));
        }
    }

    #[test]
    fn endless_extensions_and_trailers_are_too_large() {
        let many = format!("1;{}\r\n", "x".repeat(MAX_EXTENSIONS + 1));
        assert_eq!(run(many.as_bytes(), 1000), Err(Malformed::TooLarge));
        let many = format!("0\r\nx: {}", "x".repeat(TRAILERS.bytes + 1));
        assert_eq!(run(many.as_bytes(), 1000), Err(Malformed::TooLarge));
    }
}
