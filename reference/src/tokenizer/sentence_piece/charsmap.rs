//! The map of characters of a SentencePiece model: which texts others are normalized to, such as `ﬁ` to `fi`.
//!
//! `precompiled_charsmap` holds the size of a trie in bytes (u32), the trie, and the texts, each with a NUL behind it.
//! The trie is a double array of darts-clone, u32 units:
//!
//! | bits of a unit | |
//! |---|---|
//! | 0 to 7 | the byte that leads to it |
//! | 8 | whether a key ends here: the first unit of its family then holds where the text begins, with bit 31 set |
//! | 9 | whether the offset is to be multiplied by 256 |
//! | 10 to 30 | the offset: this unit's number XOR the offset is where its family begins |
//!
//! Source: sentencepiece 0.2.3, `normalizer.cc`, `Normalizer::NormalizePrefix`, and darts-clone, `darts.h`.

/// Longer keys are refused, in bytes.
const LONGEST_KEY: usize = 256;
/// Longer texts that keys are normalized to are refused, in bytes: a text must not grow without bounds. NFKC's longest has 33.
const LONGEST_TEXT: usize = 256;

/// A map of characters.
#[derive(Debug)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    texts: String,
    /// By byte: whether it is no space, and no key is it alone or begins with it and another byte of ASCII.
    plain: [bool; 128],
}

impl Charsmap {
    /// Reads a map and follows every path in it, so that none leads out of it or round in circles.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(blob: &[u8]) -> Result<Charsmap, String> {
        let (size, rest) = blob.split_first_chunk().ok_or("no size of the trie")?;
        let size = u32::from_le_bytes(*size) as usize;
        if size == 0 || !size.is_multiple_of(4) || size > rest.len() {
            return Err(format!("a trie of {size} bytes, the map has {}", rest.len()));
        }
        let (trie, texts) = rest.split_at(size);
        let units = trie.chunks_exact(4).map(|unit| unit.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)));
        let texts = std::str::from_utf8(texts)
            .map_err(|error| format!("texts: byte {}: not UTF-8", error.valid_up_to()))?;
        let mut map = Charsmap { units: units.collect(), texts: texts.to_string(), plain: [false; 128] };
        map.check()?;
        for byte in 0..128_u8 {
            let plain = map.child(map.family(0), byte).is_none_or(|unit| {
                let family = map.family(unit);
                !map.ends(unit) && (0..128).all(|second| map.child(family, second).is_none())
            });
            if let Some(entry) = map.plain.get_mut(usize::from(byte)) {
                *entry = plain && byte != b' ';
            }
        }
        Ok(map)
    }

    /// So many bytes at the beginning of a text are no keys and no spaces; more may be.
    pub(crate) fn plain_prefix(&self, text: &[u8]) -> usize {
        let plain = |byte: &u8| self.plain.get(usize::from(*byte)).is_some_and(|plain| *plain);
        let run = text.iter().position(|byte| !plain(byte)).unwrap_or(text.len());
        // The last one may begin a key with what follows, which is no ASCII.
        if text.get(run).is_some_and(|byte| !byte.is_ascii()) { run.saturating_sub(1) } else { run }
    }

    /// The longest key at the beginning of a text: its length in bytes, and what it is normalized to.
    pub(crate) fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut longest = None;
        let mut family = self.family(0);
        for (at, byte) in text.bytes().enumerate() {
            let Some(unit) = self.child(family, byte) else { break };
            family = self.family(unit);
            if self.ends(unit) && text.is_char_boundary(at + 1) {
                longest = Some((at + 1, self.text(family)?));
            }
        }
        longest
    }

    fn unit(&self, at: usize) -> u32 {
        self.units.get(at).copied().unwrap_or(u32::MAX)
    }

    /// Where the family of a unit begins: what ends there and its children.
    fn family(&self, at: usize) -> usize {
        let unit = self.unit(at);
        let offset = (unit >> 10) << ((unit & 1 << 9) >> 6);
        at ^ offset as usize
    }

    fn ends(&self, at: usize) -> bool {
        self.unit(at) & 1 << 8 != 0
    }

    /// The unit in a family to which a byte leads.
    fn child(&self, family: usize, byte: u8) -> Option<usize> {
        let at = family ^ usize::from(byte);
        let labelled = self.unit(at) & (1 << 31 | 0xff) == u32::from(byte);
        (byte != 0 && labelled).then_some(at)
    }

    /// The text of the key that ends in a family.
    fn text(&self, family: usize) -> Option<&str> {
        let text = self.texts.get((self.unit(family) & !(1 << 31)) as usize..)?;
        let end = text.bytes().take(LONGEST_TEXT + 1).position(|byte| byte == 0);
        text.get(..end.unwrap_or(text.len()))
    }

    /// Follows every path: an error if one leads out of the units or is longer than [`LONGEST_KEY`], as one that goes
    /// round in circles is, or if a key has no text.
    fn check(&self) -> Result<(), String> {
        // The longest path from each unit, 0 for those that no path has come to yet.
        let mut heights = vec![0_usize; self.units.len()];
        // The path: its units, the byte to be followed next, and the height so far.
        let mut path = vec![(0, 0_usize, 1)];
        while let Some((at, byte, height)) = path.last_mut() {
            let (unit, family) = (*at, self.family(*at));
            if *byte == 0 {
                if family | 0xff >= self.units.len() {
                    let problem = format!("unit {unit} leads to {family}, the trie has {}", self.units.len());
                    return Err(problem);
                }
                let begins = self.unit(family) & !(1 << 31);
                match self.text(family).filter(|_| self.ends(unit)) {
                    None if self.ends(unit) => {
                        return Err(format!("unit {family}: no text begins at {begins}"));
                    }
                    Some(text) if text.len() > LONGEST_TEXT => {
                        return Err(format!(
                            "unit {family}: a text of more than {LONGEST_TEXT} bytes at {begins}"
                        ));
                    }
                    _ => {}
                }
            }
            *byte += 1;
            let Ok(next) = u8::try_from(*byte) else {
                let (unit, height) = (*at, *height);
                if let Some(entry) = heights.get_mut(unit) {
                    *entry = height;
                }
                path.pop();
                if let Some((.., above)) = path.last_mut() {
                    *above = (*above).max(height + 1);
                }
                continue;
            };
            let Some(child) = self.child(family, next) else { continue };
            let known = heights.get(child).copied().unwrap_or(0);
            *height = (*height).max(known + 1);
            let height = *height;
            if path.len() + known > LONGEST_KEY || height > LONGEST_KEY + 1 {
                return Err(format!("unit {child} is in a key of more than {LONGEST_KEY} bytes"));
            }
            if known == 0 {
                path.push((child, 0, 1));
            }
        }
        Ok(())
    }
}
