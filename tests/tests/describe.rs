//! What packs and index objects say of themselves: it is what the backup stored, and damage is told, never described.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use icecore_tests::bench::{Bench, published};
use icecore_tests::damage::{Damage, Kind, of_kind};
use icecore_tests::tree::Dice;
use repo_core::internals::store;
use repo_core::{
    ChunkDescription, ChunkId, ChunkKind, Content, Corruption, Error, ExtentKind, IndexId, Mode, ObjectName,
    PackDescription, PackId, PackKind, Prefix, Put, Repository, Span,
};

fn packs(repository: &Repository) -> Vec<PackDescription> {
    let kinds = [PackKind::Data, PackKind::Meta];
    let names = kinds.iter().flat_map(|kind| repository.objects(Prefix::Packs(*kind)).expect("listed"));
    let described = names.map(|(name, size)| match name {
        ObjectName::Pack(kind, id) => {
            let pack = repository.describe_pack(id).expect("a whole pack");
            assert_eq!((pack.id, pack.kind, pack.length), (id, kind, size));
            pack
        }
        other => panic!("{other} is no pack"),
    });
    described.collect()
}

fn indexes(repository: &Repository) -> Vec<IndexId> {
    let names = repository.objects(Prefix::Indexes).expect("listed").into_iter();
    names.map(|(name, _)| if let ObjectName::Index(id) = name { id } else { panic!("{name} is no index") }).collect()
}

fn chunks(packs: &[PackDescription]) -> impl Iterator<Item = &ChunkDescription> {
    packs.iter().flat_map(|pack| &pack.frames).flat_map(|frame| &frame.chunks)
}

/// Two backups of text, of noise, and of a file large enough for a list.
fn filled() -> Bench {
    let bench = Bench::in_memory();
    let mut dice = Dice::new(5);
    for number in 0..30 {
        bench.write(&format!("texts/{number}"), dice.text(20_000 + number * 1000));
    }
    bench.write("noise", dice.bytes(1 << 20));
    bench.backup();
    bench.write("added", dice.bytes(300_000));
    bench.backup();
    bench
}

#[test]
fn the_chunks_in_packs_are_those_that_files_and_trees_name() {
    let bench = filled();
    let repository = bench.open();
    let packs = packs(&repository);
    let mut named = BTreeMap::new();
    let mut bytes = 0;
    let snapshot = published(&bench.backup_from(&bench.local_tree(), Mode::Full)).clone();
    let found = repository.list(&snapshot, b"/", true, &mut |_, node| {
        if let Content::Extents(extents) = &node.content {
            for extent in extents {
                if let ExtentKind::Data(id) = extent.kind
                    && named.insert(id, extent.length).is_none()
                {
                    bytes += extent.length;
                }
            }
        }
        ControlFlow::Continue(())
    });
    found.expect("a whole snapshot");
    assert!(named.len() > 30, "the files have chunks");
    let stored: BTreeMap<ChunkId, u64> = chunks(&packs)
        .filter(|chunk| chunk.kind == ChunkKind::Data)
        .map(|chunk| (chunk.id, u64::from(chunk.length)))
        .collect();
    assert_eq!(stored, named, "every chunk once, with its length");
    let data = packs.iter().filter(|pack| pack.kind == PackKind::Data);
    let plaintext: u64 = data.flat_map(|pack| &pack.frames).map(|frame| u64::from(frame.length)).sum();
    assert_eq!(plaintext, bytes, "frames hold these chunks and nothing else");
    let root = snapshot.record().root.tree.expect("not empty");
    assert!(chunks(&packs).any(|chunk| chunk.id == root && chunk.kind == ChunkKind::Tree));
}

#[test]
fn a_chunk_that_is_described_can_be_read_and_has_that_name_and_length() {
    let bench = filled();
    let repository = bench.open();
    let keys = store::of(&repository).expect("the index loads").keys().clone();
    let mut kinds = BTreeSet::new();
    for chunk in chunks(&packs(&repository)) {
        let (kind, bytes) = repository.chunk(&chunk.id).expect("a whole chunk");
        assert_eq!((kind, bytes.len()), (chunk.kind, chunk.length as usize));
        assert_eq!(keys.chunk_id(kind, &bytes), chunk.id);
        kinds.insert(kind);
    }
    assert!(kinds.contains(&ChunkKind::Data) && kinds.contains(&ChunkKind::Tree));
    let nothing = repository.chunk(&ChunkId([1; 32])).expect_err("no such chunk");
    assert!(matches!(&nothing, Error::Usage(words) if words.contains(&"01".repeat(32))), "{nothing}");
}

#[test]
fn frames_lie_back_to_back_and_chunks_fill_them() {
    for pack in packs(&filled().open()) {
        let mut end = 80; // the header
        for (ordinal, frame) in pack.frames.iter().enumerate() {
            assert_eq!((frame.ordinal as usize, frame.offset), (ordinal, end));
            end += frame.stored_length;
            let mut inside = 0;
            for chunk in &frame.chunks {
                assert_eq!(chunk.offset, inside);
                inside += chunk.length;
            }
            assert_eq!(inside, frame.length);
            // 24 bytes are the seal's own.
            assert_eq!(frame.compressed, frame.stored_length < frame.length + 24);
        }
        assert!(!pack.frames.is_empty() && u64::from(end) < pack.length);
        assert_eq!(pack.key_epoch, 1);
    }
}

#[test]
fn index_objects_say_of_packs_what_the_packs_say_of_themselves() {
    let bench = filled();
    let repository = bench.open();
    let own: BTreeMap<PackId, PackDescription> = packs(&repository).into_iter().map(|pack| (pack.id, pack)).collect();
    let mut named = BTreeSet::new();
    let sessions: BTreeSet<_> = own.values().map(|pack| pack.writer).collect();
    for id in indexes(&repository) {
        let index = repository.describe_index(id).expect("a whole index object");
        assert_eq!(index.id, id);
        assert!(sessions.contains(&index.writer));
        for pack in index.packs {
            let own = &own[&pack.id];
            assert_eq!((pack.kind, pack.length, pack.writer), (own.kind, own.length, own.writer));
            assert_eq!(pack.chunk_count as usize, own.frames.iter().map(|frame| frame.chunks.len()).sum::<usize>());
            assert_eq!(pack.frames, own.frames);
            assert!(named.insert(pack.id), "no pack is indexed twice");
        }
    }
    assert_eq!(named.len(), own.len(), "every pack is indexed");
    assert_eq!(sessions.len(), 2, "one for each backup");
}

/// A pack of many small chunks is indexed in several blocks.
#[test]
fn a_pack_that_is_spread_over_several_blocks_is_put_together() {
    let bench = Bench::in_memory();
    let mut dice = Dice::new(9);
    for number in 0..26_000 {
        bench.write(&format!("{}/{number}", number % 50), dice.bytes(513));
    }
    bench.backup();
    let repository = bench.open();
    let own: BTreeMap<PackId, PackDescription> = packs(&repository).into_iter().map(|pack| (pack.id, pack)).collect();
    for id in indexes(&repository) {
        for pack in repository.describe_index(id).expect("a whole index object").packs {
            assert_eq!(pack.frames, own[&pack.id].frames);
        }
    }
}

#[test]
fn of_what_is_damaged_nothing_is_described() {
    for kind in [Kind::DataPack, Kind::MetaPack, Kind::Index] {
        for how in Damage::ALL {
            let bench = filled();
            let name = bench.damage(kind, how);
            let repository = bench.open();
            let result = match name {
                ObjectName::Pack(_, id) => repository.describe_pack(id).map(drop),
                ObjectName::Index(id) => repository.describe_index(id).map(drop),
                other => panic!("{other}"),
            };
            match (how, result.expect_err("damaged")) {
                (Damage::Delete, Error::Usage(words)) => assert!(words.starts_with("no "), "{words}"),
                (Damage::Delete, other) => panic!("{other}"),
                (_, Error::Corrupt { object, problem: Corruption::Hash }) => assert_eq!(object, name),
                (how, other) => panic!("{name} {how}: {other}"),
            }
        }
    }
}

/// Whole by its name, and in the wrong place: only who has keys and storage can do that, and it is told all the same.
#[test]
fn an_object_under_the_name_of_another_kind_is_refused() {
    let bench = filled();
    let place = bench.backend();
    let put = |name: ObjectName, bytes| assert_eq!(place.put_new(&name, bytes).expect("put"), Put::Created);
    let bytes = |kind| {
        let name = of_kind(place, kind)[0];
        place.get(&name, Span::All).expect("there")
    };
    let (data, index) = (bytes(Kind::DataPack), bytes(Kind::Index));
    let data_hash = *blake3::hash(&data).as_bytes();
    let index_hash = *blake3::hash(&index).as_bytes();
    put(ObjectName::Index(IndexId(data_hash)), data);
    put(ObjectName::Pack(PackKind::Meta, PackId(index_hash)), index);
    let repository = bench.open();
    for (result, number) in [
        (repository.describe_index(IndexId(data_hash)).map(drop), 1),
        (repository.describe_pack(PackId(index_hash)).map(drop), 3),
    ] {
        match result.expect_err("of another kind") {
            Error::Corrupt { problem: Corruption::WrongType(found), .. } => assert_eq!(found, number),
            other => panic!("{other}"),
        }
    }
}
