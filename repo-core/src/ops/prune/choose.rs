//! Which packs go, and which are moved out of: a pure function of how they are used.

use std::collections::HashSet;

use crate::id::{PackId, PackKind};

use super::usage::PackUse;

/// A share of the whole, or so many bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Unused {
    /// Per cent of what the repository holds afterwards.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
    /// Whatever it is: nothing is moved for it.
    Unlimited,
}

/// What may be moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How much may stay that nothing refers to.
    pub max_unused: Unused,
    /// Bytes read to be moved, in one run.
    pub max_repack_bytes: Option<u64>,
    /// Only packs of metadata are moved.
    pub repack_meta_only: bool,
    /// Packs of data, and of metadata, that are smaller than this are merged, used or not.
    pub repack_smaller_than_bytes: [u64; 2],
    /// Packs that are sealed under keys from before a rotation are moved, used or not.
    pub rekey: bool,
}

impl Policy {
    /// The same where there is no room to move anything.
    pub fn without_moving(self) -> Self {
        Self { max_unused: Unused::Unlimited, repack_smaller_than_bytes: [0; 2], rekey: false, ..self }
    }
}

/// What is done with the packs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Ascending. Nothing in them is needed.
    pub unused: Vec<PackId>,
    /// Ascending. What is needed of them is moved first.
    pub repack: Vec<PackId>,
    /// Bytes that nothing refers to and that stay.
    pub remaining_unused_bytes: u64,
}

/// A byte freed may cost at most so many written: a pack of which less than a tenth is unused is left as it is. Three, which
/// would be cheaper, leaves 8 per cent unused where 5 were asked for (two versions of a kernel's source, the first
/// forgotten).
const WRITTEN_PER_FREED_MAX: u64 = 9;

/// Chooses. `retained`: packs that should have gone before and are still there; they go if the place lets them.
pub fn choose(packs: &[PackUse], retained: &HashSet<PackId>, policy: &Policy) -> Choice {
    let mut choice = Choice::default();
    let (mut used, mut unused) = (0u64, 0u64);
    let mut candidates = Vec::new();
    for pack in packs {
        if pack.is_free && (pack.kept_chunks == 0 || retained.contains(&pack.id)) {
            match pack.kept_chunks {
                0 => choice.unused.push(pack.id),
                // Something that lives has no other place: it moves.
                _ => choice.repack.push(pack.id),
            }
            continue;
        }
        used += pack.live;
        unused += pack.stored - pack.live;
        if pack.is_free {
            candidates.push(pack);
        }
    }
    // The worst first: most freed for what is written.
    candidates.sort_by(|a, b| {
        let share = |pack: &PackUse| pack.live as f64 / pack.stored.max(1) as f64;
        share(a).total_cmp(&share(b)).then_with(|| a.id.cmp(&b.id))
    });
    let allowed = |used: u64| match policy.max_unused {
        // Of the whole afterwards: x = p (used + x).
        Unused::Percent(percent) if percent >= 100.0 => u64::MAX,
        Unused::Percent(percent) => (used as f64 * percent / (100.0 - percent)) as u64,
        Unused::Bytes(bytes) => bytes,
        Unused::Unlimited => u64::MAX,
    };
    let limit = allowed(used);
    let mut read = 0u64;
    // Merging one small pack alone would only write it again.
    let is_small =
        |pack: &PackUse| pack.stored < policy.repack_smaller_than_bytes[usize::from(pack.kind == PackKind::Meta)];
    let merges = |kind: PackKind| candidates.iter().filter(|pack| pack.kind == kind && is_small(pack)).count() > 1;
    let merges = [merges(PackKind::Data), merges(PackKind::Meta)];
    for pack in &candidates {
        let merge = is_small(pack) && merges[usize::from(pack.kind == PackKind::Meta)];
        let freed = pack.stored - pack.live;
        let pays = unused > limit && pack.live <= freed.saturating_mul(WRITTEN_PER_FREED_MAX);
        let rekey = policy.rekey && pack.is_old;
        if !(merge || pays || rekey) || policy.repack_meta_only && pack.kind != PackKind::Meta {
            continue;
        }
        if policy.max_repack_bytes.is_some_and(|most| read + pack.stored > most) {
            continue;
        }
        read += pack.stored;
        unused -= freed;
        choice.repack.push(pack.id);
    }
    choice.unused.sort_unstable();
    choice.repack.sort_unstable();
    choice.remaining_unused_bytes = unused;
    choice
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(number: u8, stored: u64, live: u64) -> PackUse {
        let kept_chunks = u64::from(live > 0);
        let (id, kind) = (PackId([number; 32]), PackKind::Data);
        PackUse { id, kind, stored, live, chunks: 1, kept_chunks, is_free: true, is_old: false }
    }

    fn policy(max_unused: Unused) -> Policy {
        let repack_smaller_than_bytes = [0; 2];
        Policy { max_unused, max_repack_bytes: None, repack_meta_only: false, repack_smaller_than_bytes, rekey: false }
    }

    fn ids(numbers: &[u8]) -> Vec<PackId> {
        numbers.iter().map(|number| PackId([*number; 32])).collect()
    }

    #[test]
    fn what_nothing_refers_to_goes_and_the_worst_is_moved_until_little_is_left() {
        let packs = [pack(1, 100, 0), pack(2, 100, 30), pack(3, 100, 60), pack(4, 100, 98)];
        let choice = choose(&packs, &HashSet::new(), &policy(Unused::Percent(0.0)));
        assert_eq!(choice.unused, ids(&[1]));
        assert_eq!(choice.repack, ids(&[2, 3]), "to write 98 for 2 is not worth it");
        assert_eq!(choice.remaining_unused_bytes, 2);
        // 112 unused of 300; with 30 per cent 80 may stay beside 188 used.
        let choice = choose(&packs, &HashSet::new(), &policy(Unused::Percent(30.0)));
        assert_eq!((choice.repack, choice.remaining_unused_bytes), (ids(&[2]), 42));
        let choice = choose(&packs, &HashSet::new(), &policy(Unused::Unlimited));
        assert_eq!((choice.unused, choice.repack), (ids(&[1]), vec![]));
        let choice = choose(&packs, &HashSet::new(), &policy(Unused::Bytes(112)));
        assert_eq!(choice.repack, vec![]);
    }

    /// By share, not by size: to empty the small pack writes less for each byte that comes free.
    #[test]
    fn the_worst_is_the_one_with_the_smallest_share_that_lives() {
        let packs = [pack(1, 1000, 500), pack(2, 100, 40), pack(3, 10, 6)];
        let choice = choose(&packs, &HashSet::new(), &policy(Unused::Bytes(550)));
        assert_eq!((choice.repack, choice.remaining_unused_bytes), (ids(&[2]), 504));
    }

    #[test]
    fn what_may_stay_is_a_share_of_the_whole_afterwards() {
        // 300 used and 100 unused: 25 per cent of the whole, and exactly that may stay.
        let packs = [pack(1, 200, 120), pack(2, 200, 180)];
        let moved = |percent| choose(&packs, &HashSet::new(), &policy(Unused::Percent(percent))).repack;
        assert_eq!(moved(25.0), vec![]);
        assert_eq!(moved(24.0), ids(&[1]));
        // All may stay, and what is more than all.
        assert_eq!(moved(100.0), vec![]);
        assert_eq!(moved(250.0), vec![]);
    }

    #[test]
    fn a_pack_as_large_as_the_smallest_that_is_not_merged_stays() {
        let merging = Policy { repack_smaller_than_bytes: [50, 50], ..policy(Unused::Unlimited) };
        let moved = |packs: &[PackUse]| choose(packs, &HashSet::new(), &merging).repack;
        assert_eq!(moved(&[pack(1, 50, 50), pack(2, 49, 49), pack(3, 48, 48)]), ids(&[2, 3]));
        assert_eq!(moved(&[pack(1, 50, 50), pack(2, 49, 49)]), vec![], "one alone");
        let meta = PackUse { kind: PackKind::Meta, ..pack(2, 49, 49) };
        assert_eq!(moved(&[pack(1, 49, 49), meta.clone()]), vec![], "one of each kind");
        assert_eq!(moved(&[pack(1, 49, 49), meta.clone(), PackUse { id: PackId([3; 32]), ..meta }]), ids(&[2, 3]));
    }

    #[test]
    fn a_byte_that_comes_free_may_cost_nine_and_the_limit_of_bytes_read_may_be_reached() {
        let moved = |packs: &[PackUse], most| {
            choose(packs, &HashSet::new(), &Policy { max_repack_bytes: most, ..policy(Unused::Bytes(0)) }).repack
        };
        assert_eq!(moved(&[pack(1, 100, 90), pack(2, 100, 91)], None), ids(&[1]));
        assert_eq!(moved(&[pack(1, 100, 50), pack(2, 100, 60)], Some(200)), ids(&[1, 2]));
        assert_eq!(moved(&[pack(1, 100, 50), pack(2, 100, 60)], Some(199)), ids(&[1]));
    }

    #[test]
    fn a_pack_of_a_writer_at_work_is_left_alone() {
        let busy = PackUse { is_free: false, ..pack(1, 100, 0) };
        let choice = choose(&[busy], &HashSet::new(), &policy(Unused::Bytes(0)));
        assert_eq!((choice.unused, choice.repack), (vec![], vec![]));
    }

    #[test]
    fn a_limit_on_what_is_moved_is_kept_and_small_packs_are_merged_but_not_one_alone() {
        let packs = [pack(1, 100, 10), pack(2, 100, 20), pack(3, 40, 15)];
        let limited = Policy { max_repack_bytes: Some(150), ..policy(Unused::Bytes(0)) };
        assert_eq!(choose(&packs, &HashSet::new(), &limited).repack, ids(&[1, 3]));
        let small = [pack(1, 10, 10), pack(2, 10, 10), pack(3, 100, 100)];
        let merging = Policy { repack_smaller_than_bytes: [50, 0], ..policy(Unused::Unlimited) };
        assert_eq!(choose(&small, &HashSet::new(), &merging).repack, ids(&[1, 2]));
        assert_eq!(choose(&small[1..], &HashSet::new(), &merging).repack, vec![]);
        let meta = Policy { repack_meta_only: true, ..policy(Unused::Bytes(0)) };
        assert_eq!(choose(&packs, &HashSet::new(), &meta).repack, vec![]);
    }

    #[test]
    fn packs_under_old_keys_are_moved_if_that_is_asked_for_as_far_as_the_limit_allows() {
        let old = |number, live| PackUse { is_old: true, ..pack(number, 100, live) };
        let packs = [old(1, 100), pack(2, 100, 100), old(3, 100), old(4, 0), PackUse { is_free: false, ..old(5, 100) }];
        let moved = |policy: Policy| choose(&packs, &HashSet::new(), &policy).repack;
        let rekeying = Policy { rekey: true, ..policy(Unused::Unlimited) };
        assert_eq!(moved(rekeying.clone()), ids(&[1, 3]));
        assert_eq!(moved(Policy { max_repack_bytes: Some(199), ..rekeying.clone() }), ids(&[1]));
        assert_eq!(moved(Policy { repack_meta_only: true, ..rekeying.clone() }), vec![]);
        assert_eq!(moved(rekeying.without_moving()), vec![]);
        assert_eq!(moved(policy(Unused::Unlimited)), vec![]);
    }

    #[test]
    fn what_was_refused_before_is_tried_again_and_what_lives_in_it_moves() {
        let retained = HashSet::from([PackId([1; 32]), PackId([2; 32])]);
        let choice = choose(&[pack(1, 100, 100), pack(2, 100, 0)], &retained, &policy(Unused::Unlimited));
        assert_eq!((choice.unused, choice.repack), (ids(&[2]), ids(&[1])));
    }

    #[test]
    fn of_metadata_only_packs_of_metadata_move_and_where_nothing_may_move_none_does() {
        let meta = PackUse { kind: PackKind::Meta, ..pack(2, 100, 20) };
        let packs = [pack(1, 100, 10), meta, pack(3, 10, 10), pack(4, 10, 10)];
        let only = Policy { repack_meta_only: true, ..policy(Unused::Bytes(0)) };
        assert_eq!(choose(&packs, &HashSet::new(), &only).repack, ids(&[2]));
        let merging = Policy { repack_smaller_than_bytes: [50, 50], ..policy(Unused::Bytes(0)) };
        assert_eq!(choose(&packs, &HashSet::new(), &merging).repack, ids(&[1, 2, 3, 4]));
        assert_eq!(choose(&packs, &HashSet::new(), &merging.without_moving()).repack, vec![]);
    }

    proptest! {
        #[test]
        fn no_pack_is_in_both_lists_and_no_used_one_goes_unmoved(
            uses in prop::collection::vec((1u64..1000, 0u64..1000, any::<bool>()), 0..40),
            percent in 0.0f64..100.0,
        ) {
            let packs: Vec<PackUse> = uses.iter().enumerate().map(|(number, (stored, live, is_free))| PackUse {
                is_free: *is_free,
                ..pack(number as u8, *stored, (*live).min(*stored))
            }).collect();
            let choice = choose(&packs, &HashSet::new(), &policy(Unused::Percent(percent)));
            for pack in &packs {
                let (goes, moves) = (choice.unused.contains(&pack.id), choice.repack.contains(&pack.id));
                prop_assert!(!(goes && moves));
                prop_assert_eq!(goes, pack.is_free && pack.kept_chunks == 0);
                prop_assert!(!moves || pack.is_free && pack.kept_chunks > 0);
            }
            let left: u64 = packs.iter()
                .filter(|pack| !choice.unused.contains(&pack.id) && !choice.repack.contains(&pack.id))
                .map(|pack| pack.stored - pack.live).sum();
            prop_assert_eq!(choice.remaining_unused_bytes, left);
        }
    }
}
