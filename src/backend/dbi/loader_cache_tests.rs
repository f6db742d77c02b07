//! Tests of the loader's list: on the list of this machine, on lists made for the purpose, and on damaged ones.

use super::*;

use proptest::prelude::*;

fn entry<'a>(name: &'a str, path: &'a str) -> Entry<'a> {
    Entry {
        name: name.as_bytes(),
        path: path.as_bytes(),
        flags: 0x303,
        os_version: 0,
        hwcap: 0,
    }
}

/// One in a subfolder of this number.
fn inside<'a>(name: &'a str, path: &'a str, number: u64) -> Entry<'a> {
    Entry {
        hwcap: IN_SUBFOLDER << 32 | number,
        ..entry(name, path)
    }
}

/// As ldconfig would make it of a library in three places, one elsewhere, and some besides.
fn some() -> LoaderCache<'static> {
    const V3: &str = "/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libz.so.1";
    const V4: &str = "/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v4/libz.so.1";
    const V2: &str = "/usr/lib64/glibc-hwcaps/x86-64-v2/liba.so.1";
    LoaderCache {
        entries: vec![
            inside("libz.so.1", V4, 2),
            inside("libz.so.1", V3, 1),
            entry("libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1"),
            entry("libown.so.1", "/opt/own/lib/libown.so.1"),
            entry("libown.so.1", "/usr/lib/libown.so.1"),
            entry("liblink.so.1", "/usr/lib/liblink.so.1.2"),
            entry("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
            inside("liba.so.1", V2, 0),
        ],
        subfolders: vec![b"x86-64-v2", b"x86-64-v3", b"x86-64-v4"],
        generator: Some(b"ldconfig (test) 1"),
    }
}

fn names(names: &[&str]) -> BTreeSet<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn paths<'a>(cache: &LoaderCache<'a>) -> Vec<&'a str> {
    let paths = cache.entries.iter().map(|entry| entry.path);
    paths
        .map(|path| std::str::from_utf8(path).unwrap())
        .collect()
}

/// An older list before another, as ldconfig's `--format=compat` has it: with as many entries as this.
fn with_older(count: u8, list: &[u8]) -> Vec<u8> {
    let mut file = OLD_MAGIC.to_vec();
    file.resize(OLD_HEADER_BYTES, 0);
    file[OLD_HEADER_BYTES - 4] = count;
    file.resize(OLD_HEADER_BYTES + usize::from(count) * OLD_ENTRY_BYTES, 7);
    file.resize(file.len().next_multiple_of(8), 0);
    file.extend_from_slice(list);
    file
}

#[test]
fn what_is_written_is_what_was_read() {
    let bytes = some().to_bytes();
    assert_eq!(LoaderCache::parse(&bytes), Ok(some()));
    let none = some().only(&names(&[]));
    let plain = LoaderCache {
        generator: None,
        ..none
    };
    assert_eq!(LoaderCache::parse(&plain.to_bytes()), Ok(plain));
}

#[test]
fn keeps_all_entries_of_a_name_and_what_is_elsewhere() {
    let mut named = names(&["libz.so.1", "libunknown.so"]);
    assert_eq!(paths(&some().only(&named)).len(), 3);
    named.extend(some().elsewhere());
    let kept = some().only(&named);
    assert_eq!(
        paths(&kept),
        [
            "/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v4/libz.so.1",
            "/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libz.so.1",
            "/lib/x86_64-linux-gnu/libz.so.1",
            "/opt/own/lib/libown.so.1",
            "/usr/lib/libown.so.1",
            "/usr/lib/liblink.so.1.2",
        ]
    );
    assert_eq!(kept.subfolders, [b"x86-64-v3", b"x86-64-v4"]);
    assert_eq!(
        (kept.entries[0].hwcap, kept.entries[1].hwcap),
        (IN_SUBFOLDER << 32 | 1, IN_SUBFOLDER << 32)
    );
    assert_eq!(LoaderCache::parse(&kept.to_bytes()), Ok(kept));
}

#[test]
fn entries_of_other_architectures_are_left_out() {
    let mut cache = some();
    cache.entries[6].flags = 0x3;
    cache.entries[5].flags = 0x803;
    cache.entries[4].flags = 1;
    let bytes = cache.to_bytes();
    cache.entries.drain(5..7);
    assert_eq!(LoaderCache::parse(&bytes), Ok(cache));
}

#[test]
fn a_closure_ends_where_names_lead_nowhere_or_in_a_circle() {
    let cache = some();
    let found = cache.closure(&[b"libown.so.1".to_vec()], |path| match path {
        b"/opt/own/lib/libown.so.1" => vec![b"liblink.so.1".to_vec(), b"gone.so".to_vec()],
        b"/usr/lib/libown.so.1" => vec![b"libc.so.6".to_vec()],
        b"/usr/lib/liblink.so.1.2" => vec![b"libown.so.1".to_vec()],
        _ => Vec::new(),
    });
    let all = ["libown.so.1", "liblink.so.1", "gone.so", "libc.so.6"];
    assert_eq!(found, names(&all));
}

#[test]
fn an_older_list_before_it_is_skipped() {
    let mut plain = some().to_bytes();
    // Its extension is counted from the beginning of the file; without one it is the same everywhere.
    plain[EXTENSION_AT..EXTENSION_AT + 4].fill(0);
    for entry in 0..some().entries.len() {
        let hwcap = HEADER_BYTES + entry * ENTRY_BYTES + 16;
        plain[hwcap..hwcap + 8].fill(0);
    }
    let alone = LoaderCache::parse(&plain).unwrap();
    assert_eq!(alone.entries.len(), some().entries.len());
    for count in 0..3 {
        let file = with_older(count, &plain);
        assert_eq!(LoaderCache::parse(&file).as_ref(), Ok(&alone));
    }
    assert_eq!(
        LoaderCache::parse(&with_older(3, b"")),
        Err(Misread::Format)
    );
}

#[test]
fn what_is_not_understood_is_refused() {
    let damaged = |at: usize, byte| {
        let mut bytes = some().to_bytes();
        bytes[at] = byte;
        LoaderCache::parse(&bytes).map(drop)
    };
    assert_eq!(damaged(18, b'2'), Err(Misread::Format));
    assert_eq!(damaged(BYTE_ORDER_AT, 3), Err(Misread::ByteOrder));
    assert!(matches!(
        damaged(MAGIC.len() + 3, 255),
        Err(Misread::Missing {
            what: "entries",
            ..
        })
    ));
    assert!(matches!(
        damaged(HEADER_BYTES + 7, 255),
        Err(Misread::Missing { what: "name", .. })
    ));
    let third_subfolder = HEADER_BYTES + 16;
    assert_eq!(
        damaged(third_subfolder, 3),
        Err(Misread::Missing {
            what: "subfolder",
            at: 3
        })
    );
    let bytes = some().to_bytes();
    let extension = word(&bytes, EXTENSION_AT, "").unwrap() as usize;
    assert_eq!(damaged(extension + 8, 9), Err(Misread::Section(9)));
    assert!(matches!(
        damaged(extension, 0),
        Err(Misread::Missing {
            what: "extension",
            ..
        })
    ));
}

#[test]
fn a_list_that_was_cut_off_is_refused_at_each_length() {
    let whole = some().to_bytes();
    for length in 0..whole.len() {
        assert!(LoaderCache::parse(&whole[..length]).is_err(), "{length}");
    }
}

/// The list of this machine.
fn real() -> Vec<u8> {
    std::fs::read("/etc/ld.so.cache").unwrap()
}

#[test]
fn the_list_of_this_machine_is_kept_whole_and_reduced() {
    let bytes = real();
    let all = LoaderCache::parse(&bytes).unwrap();
    assert_eq!(LoaderCache::parse(&all.to_bytes()).as_ref(), Ok(&all));
    let wanted = names(&["libc.so.6"]);
    let few = all.only(&wanted);
    let again = few.to_bytes();
    assert!(few.entries.iter().any(|entry| entry.name == b"libc.so.6"));
    assert!(few.entries.len() < all.entries.len() && again.len() < bytes.len());
    assert_eq!(LoaderCache::parse(&again).unwrap().only(&wanted), few);
}

#[test]
fn the_list_of_this_machine_cut_off_is_refused_at_each_length() {
    let bytes = real();
    for length in 0..bytes.len() {
        assert!(LoaderCache::parse(&bytes[..length]).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn a_damaged_list_gives_an_answer(at in 0usize..1024, byte: u8, old: bool) {
        let mut bytes = some().to_bytes();
        if old {
            bytes = with_older(2, &bytes);
        }
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(cache) = LoaderCache::parse(&bytes) {
            let again = cache.only(&names(&["libz.so.1"])).to_bytes();
            prop_assert!(LoaderCache::parse(&again).is_ok());
        }
    }
}
