//! Parameters of a repository.

use serde::{Deserialize, Serialize};

use super::{
    CHUNK_BYTES_MAX, Extensions, FRAME_RAW_BYTES_MAX, SMALL_PAYLOAD_BYTES_MAX, check_extensions_knowing, refuse_unknown,
};
use crate::codec;
use crate::error::Corruption;
use crate::id::OwnerId;

/// Payload of `config/<generation>`. Sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The number in its name: 1, and one more for each change.
    pub generation: u64,
    /// BLAKE3 of the object of the generation before; zeros for the first.
    pub previous_digest: [u8; 32],
    /// Features that a build must know to open the repository.
    pub incompatible: u64,
    /// Features that a build must know to write to it.
    pub read_only_compatible: u64,
    /// Features that a build may ignore.
    pub compatible: u64,
    /// Where files are cut.
    pub chunker: ChunkerParameters,
    /// How chunks are gathered.
    pub frame: FrameParameters,
    /// zstd level.
    pub level: i8,
    /// The mean size of a data pack.
    pub pack_data_bytes: u32,
    /// The mean size of a metadata pack.
    pub pack_meta_bytes: u32,
    /// 0 none, 1 Padmé and quantum.
    pub padding: u8,
    /// Whether the place decides racing writes, as far as this repository relies on it: false exactly in a weak one.
    pub put_if_absent: bool,
    /// For people.
    pub label: String,
    /// Fields of later versions.
    pub extensions: Extensions,
}

/// FastCDC's parameters: powers of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChunkerParameters {
    /// 1: FastCDC 2020 with the repository's own gear table.
    pub algorithm: u8,
    /// How strongly lengths are drawn to the average: 0 to 3.
    pub normalization: u8,
    /// No chunk is shorter, but the last of a piece of data.
    pub min_bytes: u32,
    /// What lengths are drawn to.
    pub average_bytes: u32,
    /// No chunk is longer.
    pub max_bytes: u32,
}

/// How chunks are gathered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameParameters {
    /// A frame is closed once it holds this many plaintext bytes.
    pub target_bytes: u32,
    /// 0 none, 1 owner: frames are closed where the owner changes.
    pub isolation: u8,
}

/// The extension that says how much parity new packs get: one byte. Who does not know it writes none, which harms nothing.
const PARITY_PERCENT: u16 = 1;
/// The extension that makes a repository a weak one: the 16 bytes of its owner. Critical, since who does not know the rules
/// that it stands for would break them.
const GC_OWNER: u16 = 0x8003;
/// As much parity as data.
pub const PARITY_PERCENT_MAX: u8 = 100;

/// A pack must hold a frame or two; the least is for tests and tiny stores.
pub const PACK_BYTES_MIN: u32 = 64 << 10;
/// The largest pack that may be asked for: half the limit of an object, so that padding and the last frame fit.
pub const PACK_BYTES_MAX: u32 = 512 << 20;

impl ChunkerParameters {
    /// Whether FastCDC can cut by them: powers of two in order, within the bounds of the algorithm.
    pub fn check(&self) -> Result<(), Corruption> {
        if self.algorithm != 1 {
            return Err(Corruption::Unknown { field: "chunker", value: self.algorithm.into() });
        }
        // The bounds of fastcdc 5.0.0: min 64 B to 1 MiB, average 256 B to 4 MiB, max 1 KiB to 16 MiB, normalisation 0 to 3.
        let (min, average, max) = (self.min_bytes, self.average_bytes, self.max_bytes);
        let valid = self.normalization <= 3
            && [min, average, max].iter().all(|bytes| bytes.is_power_of_two())
            && min <= average
            && average <= max
            && (64..=1 << 20).contains(&min)
            && (256..=4 << 20).contains(&average)
            && (1024..=CHUNK_BYTES_MAX).contains(&max);
        if valid { Ok(()) } else { Err(Corruption::Malformed("chunker parameters")) }
    }
}

impl Config {
    /// The payload, by the codec's rules.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Refuses what this build could not write by: unknown features, and parameters out of bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corruption> {
        let config: Self = codec::decode(bytes, SMALL_PAYLOAD_BYTES_MAX, "config")?;
        config.check()?;
        Ok(config)
    }

    /// Percent of parity that new packs get; 0 for none.
    pub fn parity_percent(&self) -> u8 {
        let extension = self.extensions.iter().find(|(tag, _)| *tag == PARITY_PERCENT);
        extension.and_then(|(_, bytes)| bytes.first().copied()).unwrap_or(0)
    }

    /// The same parameters with another percentage of parity. Over 100 is no config that [`check`](Self::check) lets pass.
    pub fn with_parity_percent(mut self, percent: u8) -> Self {
        self.extensions.retain(|(tag, _)| *tag != PARITY_PERCENT);
        if percent > 0 {
            // In its one place, since tags ascend.
            let place = self.extensions.partition_point(|(tag, _)| *tag < PARITY_PERCENT);
            self.extensions.insert(place, (PARITY_PERCENT, vec![percent]));
        }
        self
    }

    /// The one client that reclaims space here, and changes keys and parameters; `None`: this is no weak repository, and
    /// anybody may.
    pub fn gc_owner(&self) -> Option<OwnerId> {
        let (_, bytes) = self.extensions.iter().find(|(tag, _)| *tag == GC_OWNER)?;
        bytes.as_slice().try_into().ok().map(OwnerId)
    }

    /// The same parameters of a weak repository with this owner.
    pub fn with_gc_owner(mut self, owner: OwnerId) -> Self {
        self.put_if_absent = false;
        self.extensions.retain(|(tag, _)| *tag != GC_OWNER);
        let place = self.extensions.partition_point(|(tag, _)| *tag < GC_OWNER);
        self.extensions.insert(place, (GC_OWNER, owner.0.to_vec()));
        self
    }

    /// Whether a repository may have such parameters. Writers ask before they encode.
    pub fn check(&self) -> Result<(), Corruption> {
        refuse_unknown("feature that readers must know", self.incompatible)?;
        self.chunker.check()?;
        if self.frame.isolation > 1 {
            return Err(Corruption::Unknown { field: "frame isolation", value: self.frame.isolation.into() });
        }
        if self.padding > 1 {
            return Err(Corruption::Unknown { field: "padding", value: self.padding.into() });
        }
        // Half of the limit, since the chunk that reaches the target may lie beyond it.
        let frame = (4096..=FRAME_RAW_BYTES_MAX / 2).contains(&self.frame.target_bytes);
        let pack = PACK_BYTES_MIN..=PACK_BYTES_MAX;
        let valid = frame
            && (1..=19).contains(&self.level)
            && pack.contains(&self.pack_data_bytes)
            && pack.contains(&self.pack_meta_bytes)
            && self.generation > 0;
        if !valid {
            return Err(Corruption::Malformed("config"));
        }
        check_extensions_knowing(&self.extensions, &[GC_OWNER])?;
        let has_owner = self.extensions.iter().any(|(tag, _)| *tag == GC_OWNER);
        // One fact in two fields: neither is ever without the other.
        if has_owner == self.put_if_absent || has_owner && self.gc_owner().is_none() {
            return Err(Corruption::Malformed("owner of a weak repository"));
        }
        match self.extensions.iter().find(|(tag, _)| *tag == PARITY_PERCENT).map(|(_, bytes)| &bytes[..]) {
            // None at all is said by leaving it out.
            None | Some([1..=PARITY_PERCENT_MAX]) => Ok(()),
            Some(_) => Err(Corruption::Malformed("percent of parity")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::sample_config;
    use super::*;

    fn with(change: impl FnOnce(&mut Config)) -> Result<(), Corruption> {
        let mut config = sample_config();
        change(&mut config);
        Config::decode(&config.encode()).map(|read| assert_eq!(read, config))
    }

    #[test]
    fn parameters_that_fastcdc_cannot_cut_by_are_refused() {
        const MALFORMED: Result<(), Corruption> = Err(Corruption::Malformed("chunker parameters"));
        let chunker = |min_bytes, average_bytes, max_bytes| {
            with(|config| config.chunker = ChunkerParameters { min_bytes, average_bytes, max_bytes, ..config.chunker })
        };
        assert_eq!(chunker(64, 256, 1024), Ok(()));
        assert_eq!(chunker(1 << 20, 4 << 20, 16 << 20), Ok(()));
        assert_eq!(chunker(65536, 65536, 65536), Ok(()));
        assert_eq!(chunker(32, 256, 1024), MALFORMED);
        assert_eq!(chunker(64, 128, 1024), MALFORMED);
        assert_eq!(chunker(64, 256, 512), MALFORMED);
        assert_eq!(chunker(1 << 20, 4 << 20, 32 << 20), MALFORMED);
        assert_eq!(chunker(1 << 20, 8 << 20, 16 << 20), MALFORMED);
        assert_eq!(chunker(2 << 20, 4 << 20, 16 << 20), MALFORMED);
        assert_eq!(chunker(131_072, 65_536, 524_288), MALFORMED);
        assert_eq!(chunker(32_768, 131_072, 65_536), MALFORMED);
        assert_eq!(chunker(0, 131_072, 524_288), MALFORMED);
        assert_eq!(chunker(32_768, 131_070, 524_288), MALFORMED);
        assert_eq!(with(|config| config.chunker.normalization = 4), MALFORMED);
        let unknown = Err(Corruption::Unknown { field: "chunker", value: 2 });
        assert_eq!(with(|config| config.chunker.algorithm = 2), unknown);
    }

    #[test]
    fn the_other_parameters_have_bounds() {
        const MALFORMED: Result<(), Corruption> = Err(Corruption::Malformed("config"));
        for (level, expected) in [(1, Ok(())), (19, Ok(())), (0, MALFORMED), (20, MALFORMED), (-1, MALFORMED)] {
            assert_eq!(with(|config| config.level = level), expected);
        }
        let mib = 1 << 20;
        for (bytes, expected) in [(4096, Ok(())), (8 * mib, Ok(())), (4095, MALFORMED), (8 * mib + 1, MALFORMED)] {
            assert_eq!(with(|config| config.frame.target_bytes = bytes), expected);
        }
        for (bytes, expected) in [(65536, Ok(())), (512 * mib, Ok(())), (65535, MALFORMED), (512 * mib + 1, MALFORMED)]
        {
            assert_eq!(with(|config| config.pack_data_bytes = bytes), expected);
            assert_eq!(with(|config| config.pack_meta_bytes = bytes), expected);
        }
        assert_eq!(with(|config| config.generation = 0), MALFORMED);
    }

    #[test]
    fn features_of_later_builds_are_refused_where_readers_must_know_them() {
        let unknown = |field, value| Err(Corruption::Unknown { field, value });
        assert_eq!(with(|config| config.incompatible = 4), unknown("feature that readers must know", 4));
        assert_eq!(with(|config| config.read_only_compatible = 4), Ok(()));
        assert_eq!(with(|config| config.compatible = 4), Ok(()));
        assert_eq!(with(|config| config.frame.isolation = 2), unknown("frame isolation", 2));
        assert_eq!(with(|config| config.padding = 2), unknown("padding", 2));
    }

    #[test]
    fn the_percentage_of_parity_has_one_spelling_and_stands_among_other_extensions() {
        let others = vec![(0, vec![9]), (7, vec![])];
        let config = Config { extensions: others.clone(), ..sample_config() };
        assert_eq!(config.parity_percent(), 0);
        for percent in [1, 2, 100] {
            let changed = config.clone().with_parity_percent(50).with_parity_percent(percent);
            assert_eq!(Config::decode(&changed.encode()).map(|config| config.parity_percent()), Ok(percent));
            assert_eq!(changed.with_parity_percent(0).extensions, others);
        }
        for bytes in [vec![0], vec![101], vec![], vec![2, 0]] {
            assert_eq!(
                with(|config| config.extensions = vec![(1, bytes)]),
                Err(Corruption::Malformed("percent of parity"))
            );
        }
    }

    #[test]
    fn a_weak_repository_has_an_owner_and_no_other_has_one() {
        const MALFORMED: Result<(), Corruption> = Err(Corruption::Malformed("owner of a weak repository"));
        let (one, two) = (OwnerId([1; 16]), OwnerId([2; 16]));
        assert_eq!(sample_config().gc_owner(), None);
        let weak = sample_config().with_gc_owner(one).with_parity_percent(3).with_gc_owner(two);
        let read = Config::decode(&weak.encode()).unwrap();
        assert_eq!((read.gc_owner(), read.put_if_absent, read.parity_percent()), (Some(two), false, 3));
        assert_eq!(with(|config| config.put_if_absent = false), MALFORMED);
        assert_eq!(with(|config| config.extensions = vec![(0x8003, vec![1; 16])]), MALFORMED);
        for bytes in [vec![], vec![1; 15], vec![1; 17]] {
            let extensions = vec![(0x8003, bytes)];
            let config = Config { put_if_absent: false, extensions, ..sample_config() };
            assert_eq!(Config::decode(&config.encode()).map(drop), MALFORMED);
        }
    }

    #[test]
    fn extensions_ascend_and_critical_ones_are_refused() {
        let tags = |tags: &[u16]| with(|config| config.extensions = tags.iter().map(|tag| (*tag, vec![])).collect());
        assert_eq!(tags(&[2, 3, 0x7fff]), Ok(()));
        assert_eq!(tags(&[3, 2]), Err(Corruption::Malformed("order of extensions")));
        assert_eq!(tags(&[2, 2]), Err(Corruption::Malformed("order of extensions")));
        assert_eq!(tags(&[2, 0x8001]), Err(Corruption::Unknown { field: "critical extension", value: 0x8001 }));
    }
}
