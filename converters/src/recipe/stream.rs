//! Random numbers by their place: any of them can be computed without the others.

/// 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The numbers of one name and one seed: those of SplitMix64 (Steele, Lea and Flood, 2014) from a state that both decide.
///
/// Integers, and f32 made of them by operations that round exactly: the same bits on every machine, and in numpy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    state: u64,
}

impl Stream {
    /// The stream of a name.
    pub fn new(seed: u64, name: &str) -> Stream {
        Stream { state: mixed(mixed(seed.wrapping_add(GAMMA)) ^ fnv1a(name)) }
    }

    /// 64 random bits.
    #[inline]
    pub fn word(&self, at: u64) -> u64 {
        mixed(self.state.wrapping_add(at.wrapping_add(1).wrapping_mul(GAMMA)))
    }

    /// A number from 0 to 1, without 1: a multiple of 2⁻²⁴.
    #[inline]
    pub fn uniform(&self, at: u64) -> f32 {
        (self.word(at) >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// A number from -4 to 4 around 0, a multiple of 2⁻¹⁵ that is the sum of four uniform ones: nearly normal, with the
    /// variance 4/3.
    #[inline]
    pub fn bell(&self, at: u64) -> f32 {
        let word = self.word(at);
        let sum = (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
        // Both are integers below 2^24, which f32 holds.
        (sum as f32 - 131_070.0) * (1.0 / 32_768.0)
    }
}

/// The output function of SplitMix64.
#[inline]
fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// FNV-1a of 64 bits.
fn fnv1a(text: &str) -> u64 {
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_splitmix64() {
        // The first numbers of the published generator, seeded with 0.
        let zero = Stream { state: 0 };
        let words = [0, 1, 2].map(|at| zero.word(at));
        assert_eq!(words, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn seeds_and_names_have_streams_of_their_own() {
        let word = |seed, name| Stream::new(seed, name).word(0);
        assert_ne!(word(1, "a"), word(2, "a"));
        assert_ne!(word(1, "a"), word(1, "b"));
        assert_eq!(word(1, "a"), word(1, "a"));
    }

    #[test]
    fn numbers_have_the_moments_that_they_should() {
        let stream = Stream::new(1, "moments");
        let count = 100_000;
        let mean =
            |of: &dyn Fn(u64) -> f32| (0..count).map(|at| f64::from(of(at))).sum::<f64>() / count as f64;
        assert!(mean(&|at| stream.bell(at)).abs() < 0.02);
        assert!((mean(&|at| stream.bell(at).powi(2)) - 4.0 / 3.0).abs() < 0.02);
        assert!((mean(&|at| stream.uniform(at)) - 0.5).abs() < 0.005);
        assert!(
            (0..count).all(|at| (0.0..1.0).contains(&stream.uniform(at)) && stream.bell(at).abs() <= 4.0)
        );
    }
}
