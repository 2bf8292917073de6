//! Two ordered streams of entries, walked in step. What is made of a pair is the verb's business.

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::format::tree::Node;

use super::SourceEntry;

/// Something with a name to be ordered by.
pub trait Named {
    /// Raw bytes.
    fn name(&self) -> &[u8];
}

impl Named for SourceEntry {
    fn name(&self) -> &[u8] {
        &self.name
    }
}

impl Named for Node {
    fn name(&self) -> &[u8] {
        &self.name
    }
}

/// On which side a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side<L, R> {
    Left(L),
    Right(R),
    Both(L, R),
}

/// The failure of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed<L, R> {
    Left(L),
    Right(R),
}

/// Pairs two streams, both ascending by name, each name at most once: the result ascends too.
///
/// A failure is passed on as soon as it is met, and the side that failed is asked for its next: whether to go on is for
/// the caller to say. No more than one item of each side is held.
pub fn merge<L, R, LE, RE, LI, RI>(left: LI, right: RI) -> Merge<LI::IntoIter, RI::IntoIter>
where
    L: Named,
    R: Named,
    LI: IntoIterator<Item = Result<L, LE>>,
    RI: IntoIterator<Item = Result<R, RE>>,
{
    Merge { left: left.into_iter().peekable(), right: right.into_iter().peekable() }
}

/// See [`merge`].
pub struct Merge<L: Iterator, R: Iterator> {
    left: Peekable<L>,
    right: Peekable<R>,
}

impl<L: Iterator, R: Iterator> std::fmt::Debug for Merge<L, R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Merge").finish_non_exhaustive()
    }
}

impl<L, R, LE, RE, LI, RI> Iterator for Merge<LI, RI>
where
    L: Named,
    R: Named,
    LI: Iterator<Item = Result<L, LE>>,
    RI: Iterator<Item = Result<R, RE>>,
{
    type Item = Result<Side<L, R>, Failed<LE, RE>>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.left.peek(), self.right.peek()) {
            (None, None) => return None,
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
            (Some(Ok(left)), Some(Ok(right))) => left.name().cmp(right.name()),
        };
        let left = if order.is_le() { self.left.next() } else { None };
        let right = if order.is_ge() { self.right.next() } else { None };
        Some(match (left, right) {
            (Some(Ok(left)), Some(Ok(right))) => Ok(Side::Both(left, right)),
            (Some(Ok(left)), _) => Ok(Side::Left(left)),
            (Some(Err(error)), _) => Err(Failed::Left(error)),
            (None, Some(Ok(right))) => Ok(Side::Right(right)),
            (None, Some(Err(error))) => Err(Failed::Right(error)),
            (None, None) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Name(Vec<u8>);

    impl Named for Name {
        fn name(&self) -> &[u8] {
            &self.0
        }
    }

    fn stream(names: &BTreeSet<Vec<u8>>) -> impl Iterator<Item = Result<Name, ()>> {
        names.iter().cloned().map(|name| Ok(Name(name)))
    }

    proptest! {
        #[test]
        fn every_name_comes_once_in_order_with_the_sides_it_is_on(
            left in prop::collection::btree_set(prop::collection::vec(0u8..4, 1..4), 0..20),
            right in prop::collection::btree_set(prop::collection::vec(0u8..4, 1..4), 0..20),
        ) {
            let merged: Vec<_> = merge(stream(&left), stream(&right)).map(Result::unwrap).collect();
            let expected: Vec<_> = left.union(&right).map(|name| {
                let item = Name(name.clone());
                match (left.contains(name), right.contains(name)) {
                    (true, true) => Side::Both(item.clone(), item),
                    (true, false) => Side::Left(item),
                    _ => Side::Right(item),
                }
            }).collect();
            prop_assert_eq!(merged, expected);
        }
    }

    #[test]
    fn a_failure_on_either_side_is_told_and_costs_no_other_name() {
        let name = |name: &str| Name(name.into());
        let left = vec![Ok(name("a")), Err("left"), Ok(name("c"))];
        let right = vec![Ok(name("b")), Err(7), Ok(name("c"))];
        let merged: Vec<_> = merge(left, right).collect();
        let expected = vec![
            Ok(Side::Left(name("a"))),
            Err(Failed::Left("left")),
            Ok(Side::Right(name("b"))),
            Err(Failed::Right(7)),
            Ok(Side::Both(name("c"), name("c"))),
        ];
        assert_eq!(merged, expected);
    }
}
