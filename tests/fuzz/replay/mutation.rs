//! Seeds changed at random, the same way in every run.

use fastrand::Rng;

/// Bytes that mean something to one of the targets.
const TELLING: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"=",
    b"%",
    b"%2e",
    b"%2F",
    b"/",
    b"..",
    b"//",
    b"\"",
    b"\\",
    b"\xff",
    b"\xc3\xa9",
    b"0",
    b"1",
    b"-1",
    b"4294967296",
    b"[",
    b"]",
    b"{",
    b"}",
    b"#",
    b"$",
    b"${",
    b"*",
    b"\r\n\r\n",
    b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"host: a\r\n",
    b"wp=",
    b"::1",
];

/// An endless line of them.
pub(crate) struct Mutations<'a> {
    seeds: &'a [Vec<u8>],
    rng: Rng,
}

impl<'a> Mutations<'a> {
    pub(crate) fn of(seeds: &'a [Vec<u8>]) -> Mutations<'a> {
        Mutations { seeds, rng: Rng::with_seed(7) }
    }

    fn seed(&mut self) -> &'a [u8] {
        &self.seeds[self.rng.usize(..self.seeds.len())]
    }

    fn change(&mut self, data: &mut Vec<u8>) {
        let at = self.rng.usize(..=data.len());
        let end = (at + self.rng.usize(..16)).min(data.len());
        match self.rng.u8(..6) {
            0 if at < data.len() => data[at] ^= 1 << self.rng.u8(..8),
            1 => drop(data.drain(at..end)),
            2 => {
                let again = data[at..end].to_vec();
                data.splice(at..at, again);
            }
            3 => {
                let other = self.seed();
                let from = self.rng.usize(..=other.len());
                data.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let telling = self.rng.usize(..TELLING.len());
                let to = if self.rng.bool() { at } else { end };
                data.splice(at..to, TELLING[telling].iter().copied());
            }
        }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut data = self.seed().to_vec();
        for _ in 0..self.rng.usize(1..6) {
            self.change(&mut data);
        }
        Some(data)
    }
}
