//! `dmaring copy` between files, streams, models and loop devices.

#[expect(dead_code, reason = "some of it is for tests that boot guests")]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use support::copying::{Folder, LEN, Loop, fed, noise};
use support::{assert_status, text};

#[test]
fn a_file_is_copied_at_any_offset_and_any_block_size() {
    let folder = Folder::new();
    let data = noise(LEN);
    folder.with("a", &data);
    for (skip, seek, bs, depth) in
        [(0, 0, 131_072, 16), (0, 0, 1, 2), (100, 777, 4096, 3), (4096, 512, 1_000_000, 1), (1, 0, 70_000, 64)]
    {
        folder.with("b", &[0xee; 5000]);
        let size = if bs == 1 { 50_000 } else { LEN - skip };
        let words = format!("--skip {skip} --seek {seek} --bs {bs} --iodepth {depth} --size {size} --verify");
        let output = folder.good(&format!("a b {words}"));
        assert!(text(&output.stderr).contains(&format!("{size} bytes")), "{}", text(&output.stderr));
        let found = fs::read(folder.path("b")).unwrap();
        assert_eq!(found.len(), seek + size, "{words}");
        assert!(found[..seek].iter().all(|byte| *byte == 0xee), "{words}: what was before --seek");
        assert!(found[seek..] == data[skip..skip + size], "{words}");
    }
    assert!(text(&folder.good("a new --seek 10").stdout).is_empty());
    assert_eq!(fs::read(folder.path("new")).unwrap()[..10], [0; 10]);
}

#[test]
fn a_file_is_cut_unless_it_shall_not_be() {
    let folder = Folder::new();
    folder.with("a", &[1; 100]);
    for (line, expected) in [("a b", 100), ("a b --seek 50", 150), ("a b --seek 50 --size 10", 60), ("a b --size 0", 0)]
    {
        folder.with("b", &[2; 10_000]);
        folder.good(line);
        assert_eq!(fs::metadata(folder.path("b")).unwrap().len(), expected, "{line}");
    }
    for len in [10_000, 8192, 8704] {
        folder.with("b", &vec![2; len]);
        folder.good("a b --seek 5000 --notrunc --verify");
        let found = fs::read(folder.path("b")).unwrap();
        let expected = [vec![2; 5000], vec![1; 100], vec![2; len - 5100]].concat();
        assert!(found == expected, "{len}");
        folder.good(&format!("a b --seek {} --notrunc --verify", len - 50));
        assert_eq!(fs::metadata(folder.path("b")).unwrap().len(), len as u64 + 50);
    }
}

#[test]
fn streams_are_copied_in_their_order() {
    let folder = Folder::new();
    let data = noise(LEN);
    folder.with("a", &data);
    for words in ["", "--bs 1000 --iodepth 1", "--bs 4k --iodepth 7"] {
        let output = folder.good(&format!("a - {words}"));
        assert!(output.stdout == data, "{words}");
        assert_status(&fed(&folder, &format!("- b --verify {words}"), &data), 0);
        assert!(fs::read(folder.path("b")).unwrap() == data, "{words}");
        let output = fed(&folder, &format!("- - --skip 1000 --size 100000 {words}"), &data);
        assert_status(&output, 0);
        assert!(output.stdout == data[1000..101_000], "{words}");
    }
    folder.good("a /dev/null");
    folder.good("/dev/zero b --size 10000");
    assert_eq!(fs::read(folder.path("b")).unwrap(), vec![0; 10_000]);
    folder.good("/proc/self/cmdline b");
    assert!(fs::read(folder.path("b")).unwrap().starts_with(env!("CARGO_BIN_EXE_dmaring").as_bytes()));
}

#[test]
fn models_take_what_fits_and_verify_it() {
    let folder = Folder::new();
    let data = noise(LEN);
    folder.with("a", &data);
    for completion in ["poll", "interrupt", "adaptive"] {
        let more = format!("--verify --completion {completion}");
        folder.good(&format!("a model:4m {more}"));
        folder.good(&format!("a model:4m --seek 777 --skip 5 --bs 10000 {more}"));
        folder.good(&format!("model:4m model:8m --seek 4095 {more}"));
        folder.good(&format!("model:1m b --skip 1000 {more}"));
        assert_eq!(fs::read(folder.path("b")).unwrap(), vec![0; (1 << 20) - 1000]);
        assert_status(&fed(&folder, &format!("- model:4m --seek 100 {more}"), &data), 0);
        assert_status(&fed(&folder, &format!("- model:512k {more}"), &data[..512 << 10]), 0);
        assert_eq!(folder.good(&format!("model:1m - --completion {completion}")).stdout, vec![0; 1 << 20]);
    }
    folder.bad("a model:null:4m --verify", &["verification failed", "the first at offset 0: byte 0x00 where"]);
    let output = fed(&folder, "- model:null:4m --verify", &[1; 10_000]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("10000 of 10000 bytes of model:null:4m differ"), "{}", text(&output.stderr));
    folder.bad("a model:2m", &["3000001 bytes do not fit", "ends at 2097152"]);
    let output = fed(&folder, "- model:1m", &data);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("is full: it took 1048576 bytes"), "{}", text(&output.stderr));
}

fn sparse_file(path: &Path) -> Vec<u8> {
    let file = File::create(path).unwrap();
    file.set_len(16 << 20).unwrap();
    for (offset, len) in [(0, 4096), (5 << 20, 100_000), ((9 << 20) + 100, 1)] {
        file.write_all_at(&noise(len), offset).unwrap();
    }
    fs::read(path).unwrap()
}

fn kept(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn holes_stay_holes_and_zeros_become_some() {
    let folder = Folder::new();
    let data = sparse_file(&folder.path("a"));
    folder.with("b", &[1; 100_000]);
    let output = folder.good("a b --verify");
    assert!(text(&output.stderr).contains("left out as holes"), "{}", text(&output.stderr));
    assert!(fs::read(folder.path("b")).unwrap() == data);
    assert!(kept(&folder.path("b")) <= 256 << 10, "{}", kept(&folder.path("b")));
    // Zeros that are stored.
    folder.with("full", &data);
    folder.good("full b");
    assert!(kept(&folder.path("b")) >= 16 << 20);
    for line in ["full b --sparse --verify --bs 4k", "full b --sparse --skip 4096 --seek 100 --bs 4k --verify"] {
        folder.good(line);
        assert!(kept(&folder.path("b")) <= 256 << 10, "{line}: {}", kept(&folder.path("b")));
    }
    assert!(fs::read(folder.path("b")).unwrap()[100..] == data[4096..]);
    assert_status(&fed(&folder, "- b --sparse --verify --bs 4k", &data), 0);
    assert!(fs::read(folder.path("b")).unwrap() == data && kept(&folder.path("b")) <= 256 << 10);
    // Offsets at which no block of one side is a block of the other.
    folder.good("a b --skip 1000 --seek 33 --verify");
    assert!(fs::read(folder.path("b")).unwrap()[33..] == data[1000..]);
    assert!(kept(&folder.path("b")) <= 256 << 10);
    assert!(folder.good("a -").stdout == data);
    // What was there before must not shine through.
    folder.with("b", &[1; 1 << 20]);
    folder.good("a b --size 1m --notrunc --verify");
    assert!(fs::read(folder.path("b")).unwrap() == data[..1 << 20]);
}

#[test]
fn progress_is_told_where_it_is_wanted() {
    let folder = Folder::new();
    folder.with("a", &noise(LEN));
    let lines = text(&folder.good("a b --progress --verify").stderr);
    assert!(lines.contains("copied: 3000001 of 3000001 bytes") && lines.contains("verified: 3000001 of"), "{lines}");
    assert_eq!(text(&folder.good("a b").stderr).lines().count(), 1);
}

#[test]
fn block_devices_keep_what_the_copy_does_not_cover() {
    let folder = Folder::new();
    let data = sparse_file(&folder.path("a"));
    let image = folder.with("image", &vec![0xff; 20 << 20]);
    let Some(device) = Loop::new(&image) else { return };
    let disk = &device.0;
    folder.good(&format!("a {disk} --seek 1000 --size 10000001 --verify"));
    folder.good(&format!("{disk} back --verify"));
    let found = fs::read(folder.path("back")).unwrap();
    assert!(found[1000..10_001_001] == data[..10_000_001], "holes read back as zeros");
    assert!(found[..1000].iter().chain(&found[10_001_001..]).all(|byte| *byte == 0xff));
    assert_status(&fed(&folder, &format!("- {disk} --verify --seek 20971519"), b"x"), 0);
    assert!(folder.good(&format!("{disk} - --skip 20971518")).stdout == [0xff, b'x']);
    let output = fed(&folder, &format!("- {disk} --seek 20971500"), &[1; 100]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("is full: it took 20 bytes"), "{}", text(&output.stderr));
    folder.good(&format!("{disk} {disk} --size 1m --seek 10m --verify"));
    for (line, parts) in [
        (format!("{disk} {disk}"), &["the same bytes"][..]),
        (format!("{disk} {disk} --size 2m --seek 1m"), &["the same bytes"]),
        (format!("image {disk}"), &["the same bytes"]),
        (format!("{disk} image"), &["the same bytes"]),
        (format!("a {disk} --sparse"), &["--sparse"]),
        (format!("a {disk} --seek 10m"), &["do not fit"]),
    ] {
        folder.bad(&line, parts);
    }
}
