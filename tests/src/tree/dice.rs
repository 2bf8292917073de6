//! Random numbers that are the same on every machine and in every year: splitmix64 (Steele, Lea, Flood, 2014).

/// A generator; its whole state is its seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0. Slightly uneven, as nobody here minds.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length as usize + 8);
        while (bytes.len() as u64) < length {
            bytes.extend_from_slice(&self.roll().to_le_bytes());
        }
        bytes.truncate(length as usize);
        bytes
    }

    /// Words that compress well.
    pub fn text(&mut self, length: u64) -> Vec<u8> {
        const WORDS: [&str; 8] = ["ice ", "core ", "frame ", "snow\n", "winter ", "layer ", "drill ", "depth\t"];
        let mut text = Vec::with_capacity(length as usize + 8);
        while (text.len() as u64) < length {
            text.extend_from_slice(WORDS[self.below(8) as usize].as_bytes());
        }
        text.truncate(length as usize);
        text
    }
}
