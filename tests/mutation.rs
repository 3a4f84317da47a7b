//! Damage to files, the same on every machine: what a fuzzer does, for a few hundred inputs of each kind in an ordinary test.

/// Makes damaged copies of files.
pub(crate) struct Mutator(u64);

/// What files of these kinds obey: ends of numbers, brackets, escapes, names.
const TOKENS: [&str; 40] = [
    "0",
    "-1",
    "1",
    "255",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1e999",
    "-0.0",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    ",",
    ":",
    "\n",
    "\t",
    "- ",
    "&a ",
    "*a",
    "\\u0000",
    "\\ud800",
    "\u{1b}[2J",
    "::",
    "é",
    "\u{202e}",
    "../",
    "/",
    "",
    "x",
];

impl Mutator {
    /// The mutator that makes the damage of this number.
    pub(crate) fn new(seed: u64) -> Mutator {
        Mutator(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    /// A part of some bytes, mostly a short one.
    fn part(&mut self, of: &[u8]) -> std::ops::Range<usize> {
        let longest = if self.next(4) == 0 { of.len() } else { 16 };
        let start = self.next(of.len() + 1);
        let length = self.next(longest + 1).min(of.len() - start);
        start..start + length
    }

    /// One to four damages to a file, some of them with parts of `other`.
    pub(crate) fn damage(&mut self, file: &[u8], other: &[u8]) -> Vec<u8> {
        const LARGEST: usize = 4 << 20;
        let mut bytes = file.to_vec();
        for _ in 0..=self.next(4) {
            let part = self.part(&bytes);
            match self.next(9) {
                0 if !bytes.is_empty() => {
                    let at = self.next(bytes.len());
                    bytes[at] ^= 1 << self.next(8);
                }
                1 if !bytes.is_empty() => {
                    let at = self.next(bytes.len());
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.next(5)];
                }
                2 => drop(bytes.splice(part, [])),
                3 => {
                    let copy = bytes[part.clone()].to_vec();
                    bytes.splice(part.start..part.start, copy);
                }
                4 => {
                    let token = TOKENS[self.next(TOKENS.len())];
                    bytes.splice(part, token.bytes());
                }
                5 => {
                    let from = self.part(other);
                    bytes.splice(part, other[from].iter().copied());
                }
                6 => bytes.truncate(part.start),
                7 => {
                    let times = 1 << self.next(12);
                    let repeated = bytes[part.clone()].repeat(times);
                    if repeated.len() < LARGEST {
                        bytes.splice(part, repeated);
                    }
                }
                // Numbers of binary formats.
                _ => {
                    let number = [0, 1, u64::from(u32::MAX), u64::MAX, 1 << 31, 1 << 40][self.next(6)];
                    let width = [1, 2, 4, 8][self.next(4)].min(bytes.len() - part.start);
                    let number = &number.to_le_bytes()[..width];
                    bytes[part.start..part.start + width].copy_from_slice(number);
                }
            }
        }
        bytes
    }
}
