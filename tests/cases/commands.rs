//! NVMe commands through URING_CMD. On the kernel they go to the character device of the namespace.

use dmaring::abi::nvme::{
    NVME_URING_CMD_ADMIN, NVME_URING_CMD_ADMIN_VEC, NVME_URING_CMD_IO, NVME_URING_CMD_IO_VEC, NvmeUringCmd,
};
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, cases, skip};
use crate::support::command::{
    CODE, COMPARE, DATASET_MANAGEMENT, FLUSH, GET_FEATURES, IDENTIFY, READ, WRITE, WRITE_ZEROES, entry, fixed, ranged,
    transfer, vectored,
};
use crate::support::pattern;
use crate::support::raw::{Memory, edit128};
use crate::support::rig::{FILE, expect_errno};

pub(super) const ALL: &[Case] = cases![
    commands_read_and_write_what_other_operations_see,
    commands_take_memory_of_any_alignment,
    commands_take_vectors,
    commands_take_registered_buffers,
    commands_take_vectors_of_registered_buffers,
    commands_without_data_are_answered,
    a_status_of_the_device_is_a_result_above_zero,
    commands_the_kernel_refuses_get_its_errno,
    a_command_may_move_less_than_its_memory_holds,
    ordinary_transfers_follow_commands_of_all_words,
    commands_among_each_other_all_complete,
    commands_want_both_entries_large,
    admin_commands_are_answered_with_their_result,
    admin_commands_want_consent,
];

fn commands_read_and_write_what_other_operations_see(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    // Behind an IOMMU the kernel keeps to what maps fast (`dma_opt_mapping_size`).
    let longest = if bench.is_device() { 512 << 10 } else { 128 << 10 };
    for len in [512, 4096, 8192, 12288, longest] {
        for memory in [rig.plain(len), rig.alloc(len)?] {
            memory.write(&pattern::bytes(len as u64, 8192, len));
            assert_eq!(rig.io(&transfer(WRITE, &memory, 8192))?, 0, "write of {len}");
            other.expect(len as u64, 8192, len)?;
            other.put(len as u64 + 1, 8192, len)?;
            assert_eq!(rig.io(&transfer(READ, &memory, 8192))?, 0, "read of {len}");
            pattern::check(len as u64 + 1, 8192, &memory.read());
        }
    }
    Ok(())
}

fn commands_take_memory_of_any_alignment(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    other.put(3, 0, 128 << 10)?;
    for memory in [rig.plain(160 << 10), rig.alloc(160 << 10)?] {
        for start in [0, 1, 2, 4, 511, 2048, 3584, 4095] {
            for len in [512, 4096, 8192, 128 << 10] {
                memory.write(&vec![0x5a; memory.len()]);
                let part = memory.part(start, len);
                assert_eq!(rig.io(&transfer(READ, &part, 0))?, 0, "{len} at byte {start} of a page");
                let data = memory.read();
                pattern::check(3, 0, &data[start..start + len]);
                let around = data[..start].iter().chain(&data[start + len..]);
                assert!(around.copied().all(|byte| byte == 0x5a), "{len} at byte {start}: nothing around it");
                assert_eq!(rig.io(&transfer(WRITE, &part, 1 << 20))?, 0);
                pattern::check(3, 0, &other.get(1 << 20, len)?);
            }
        }
    }
    Ok(())
}

fn commands_take_vectors(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    for memory in [rig.plain(64 << 10), rig.alloc(64 << 10)?] {
        let part = |start, len| memory.part(start, len);
        let vectors = [
            vec![part(0, 4096)],
            vec![part(8192, 4096), part(0, 4096), part(16384, 8192)],
            vec![part(3584, 512), part(8192, 4096), part(20480, 512)],
            vec![part(100, 300), part(5000, 212), part(9000, 1024)],
        ];
        for parts in vectors {
            let len: usize = parts.iter().map(Memory::len).sum();
            other.put(7, 4096, len)?;
            memory.write(&[0; 64 << 10]);
            let command = vectored(&mut rig, READ, &parts, 4096);
            assert_eq!(rig.command(entry(NVME_URING_CMD_IO_VEC, &command))?.0, 0);
            let data: Vec<u8> = parts.iter().flat_map(Memory::read).collect();
            pattern::check(7, 4096, &data);
            let command = vectored(&mut rig, WRITE, &parts, 1 << 20);
            assert_eq!(rig.command(entry(NVME_URING_CMD_IO_VEC, &command))?.0, 0);
            pattern::check(7, 4096, &other.get(1 << 20, len)?);
        }
    }
    let hollow = NvmeUringCmd { opcode: READ, nsid: 1, data_len: 1, ..NvmeUringCmd::default() };
    let nothing = rig.plain(4096).part(0, 0);
    let empty = NvmeUringCmd { addr: rig.iovecs(&[nothing.iovec()]) as u64, ..hollow };
    expect_errno(rig.command(entry(NVME_URING_CMD_IO_VEC, &empty))?.0, libc::EINVAL, "no bytes");
    let many = NvmeUringCmd { data_len: 1025, ..empty };
    expect_errno(rig.command(entry(NVME_URING_CMD_IO_VEC, &many))?.0, libc::EINVAL, "1,025 segments");
    let nowhere = NvmeUringCmd { addr: 1 << 63, ..hollow };
    expect_errno(rig.command(entry(NVME_URING_CMD_IO_VEC, &nowhere))?.0, libc::EFAULT, "an array that cannot be");
    Ok(())
}

fn commands_take_registered_buffers(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    let memory = rig.plain(64 << 10);
    rig.register(&[&memory.part(0, 8192), &memory.part(16384, 16384)])?;
    other.put(4, 0, 16384)?;
    for (index, start, len) in [(0, 0, 4096), (0, 3584, 1024), (0, 0, 8192), (1, 16384, 16384), (1, 20480, 4096)] {
        memory.write(&[0; 64 << 10]);
        let part = memory.part(start, len);
        assert_eq!(rig.command(fixed(NVME_URING_CMD_IO, &transfer(READ, &part, 0), index))?.0, 0, "{len} at {start}");
        pattern::check(4, 0, &part.read());
        assert_eq!(rig.command(fixed(NVME_URING_CMD_IO, &transfer(WRITE, &part, 1 << 20), index))?.0, 0);
        pattern::check(4, 0, &other.get(1 << 20, len)?);
    }
    let beyond = transfer(READ, &memory.part(4096, 8192), 0);
    expect_errno(rig.command(fixed(NVME_URING_CMD_IO, &beyond, 0))?.0, libc::EFAULT, "beyond the buffer");
    expect_errno(rig.command(fixed(NVME_URING_CMD_IO, &beyond, 1))?.0, libc::EFAULT, "another buffer");
    expect_errno(rig.command(fixed(NVME_URING_CMD_IO, &beyond, 2))?.0, libc::EFAULT, "no such buffer");
    let flush = NvmeUringCmd { opcode: FLUSH, nsid: 1, ..NvmeUringCmd::default() };
    assert_eq!(rig.command(fixed(NVME_URING_CMD_IO, &flush, 1))?.0, 0, "without data none is looked for");
    Ok(())
}

fn commands_take_vectors_of_registered_buffers(bench: &Bench) -> Outcome {
    bench.command_name(false)?;
    bench.since(6, 15)?;
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    let memory = rig.plain(64 << 10);
    rig.register(&[&memory.part(0, 32768)])?;
    other.put(6, 0, 8192)?;
    let parts = [memory.part(4096, 4096), memory.part(16384, 4096)];
    let command = vectored(&mut rig, READ, &parts, 0);
    assert_eq!(rig.command(fixed(NVME_URING_CMD_IO_VEC, &command, 0))?.0, 0);
    pattern::check(6, 0, &parts.iter().flat_map(Memory::read).collect::<Vec<u8>>());
    let beyond = vectored(&mut rig, READ, &[memory.part(0, 4096), memory.part(32768, 4096)], 0);
    expect_errno(rig.command(fixed(NVME_URING_CMD_IO_VEC, &beyond, 0))?.0, libc::EFAULT, "one part beyond");
    Ok(())
}

fn commands_without_data_are_answered(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    assert_eq!(rig.command(entry(NVME_URING_CMD_IO, &NvmeUringCmd { nsid: 1, ..Default::default() }))?, (0, [0; 2]));
    other.put(5, 0, 65536)?;
    assert_eq!(rig.io(&ranged(WRITE_ZEROES, 4096, 16))?, 0);
    other.expect(5, 0, 4096)?;
    assert_eq!(other.get(4096, 8192)?, [0; 8192]);
    other.expect(5, 12288, 65536 - 12288)?;
    // One range, of which only the command knows that it is 16 bytes.
    let range = rig.plain(16);
    range.write(&[[0; 4], 8u32.to_le_bytes(), 64u32.to_le_bytes(), [0; 4]].concat());
    let discard =
        NvmeUringCmd { addr: range.address(), data_len: 16, cdw11: 1 << 2, ..ranged(DATASET_MANAGEMENT, 0, 1) };
    assert_eq!(rig.io(&NvmeUringCmd { cdw12: 0, ..discard })?, 0);
    other.expect(5, 12288, 32768 - 12288)?;
    other.expect(5, 36864, 65536 - 36864)?;
    Ok(())
}

fn a_status_of_the_device_is_a_result_above_zero(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    let memory = rig.filled(8, 0, 4096);
    other.put(8, 0, 4096)?;
    assert_eq!(rig.io(&transfer(COMPARE, &memory, 0))?, 0, "they are equal");
    memory.write(&[1; 4096]);
    let mismatch = rig.io(&transfer(COMPARE, &memory, 0))?;
    assert_eq!(mismatch & CODE, 0x285, "Compare Failure: {mismatch:#x}");
    let unknown = rig.io(&NvmeUringCmd { opcode: 0xff, nsid: 1, ..Default::default() })?;
    assert_eq!(unknown & CODE, 0x001, "Invalid Command Opcode: {unknown:#x}");
    let size = other.size();
    for opcode in [READ, WRITE] {
        for offset in [size, size - 512, 1 << 50] {
            let beyond = rig.io(&transfer(opcode, &memory, offset))?;
            assert_eq!(beyond & CODE, 0x080, "LBA Out of Range: {beyond:#x}");
        }
    }
    for res in [mismatch, unknown] {
        assert!(res > 0 && res < 1 << 15, "{res:#x}");
    }
    other.expect(8, 0, 4096)?;
    Ok(())
}

fn commands_the_kernel_refuses_get_its_errno(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let memory = rig.filled(9, 0, 4096);
    let good = transfer(READ, &memory, 0);
    for flags in [1, 2, 0x40, 0x80] {
        expect_errno(rig.io(&NvmeUringCmd { flags, ..good })?, libc::EINVAL, &format!("flags {flags:#x}"));
    }
    for nsid in [0, 2, 0xffff_fffe, 0xffff_ffff] {
        expect_errno(rig.io(&NvmeUringCmd { nsid, ..good })?, libc::EINVAL, &format!("namespace {nsid:#x}"));
    }
    expect_errno(rig.io(&NvmeUringCmd { flags: 1, nsid: 2, ..good })?, libc::EINVAL, "both");
    let metadata = NvmeUringCmd { metadata: memory.address(), metadata_len: 8, ..good };
    expect_errno(rig.io(&metadata)?, libc::EINVAL, "metadata");
    assert_eq!(rig.io(&NvmeUringCmd { metadata_len: 0, ..metadata })?, 0, "an address of no metadata");
    for addr in [0, 8, 1 << 63, u64::MAX - 4096] {
        // Before, the kernel took address 0 to mean that there is no data.
        if addr == 0 && bench.since(6, 15).is_err() {
            continue;
        }
        expect_errno(rig.io(&NvmeUringCmd { addr, ..good })?, libc::EFAULT, &format!("address {addr:#x}"));
    }
    let long = transfer(READ, &rig.plain(1 << 20), 0);
    expect_errno(rig.io(&long)?, libc::EINVAL, "longer than any transfer");
    let ignored = NvmeUringCmd { rsvd1: 7, rsvd2: 7, timeout_ms: 20_000, ..good };
    assert_eq!(rig.io(&ignored)?, 0, "reserved members are not looked at");
    // Two of the entry's own members.
    let good = entry(NVME_URING_CMD_IO, &good);
    for (byte, value, what) in [(12, 1, "__pad1"), (28, 4, "uring_cmd_flags")] {
        let bad = edit128(good.clone(), |bytes| bytes[byte] = value);
        rig.push(&bad)?;
        rig.push(&opcode::Nop::new().build().into())?;
        assert_eq!(rig.ring.submit()?, 1, "{what}: the batch ends");
        expect_errno(rig.wait(1)?[0].res, libc::EINVAL, what);
        assert_eq!(rig.ring.submit()?, 1);
        rig.wait(1)?;
    }
    let nowhere = opcode::UringCmd80::new(types::Fixed(9), NVME_URING_CMD_IO).build();
    expect_errno(rig.command(nowhere)?.0, libc::EBADF, "no such file");
    Ok(())
}

fn a_command_may_move_less_than_its_memory_holds(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    other.put(2, 0, 65536)?;
    for memory in [rig.plain(65536), rig.alloc(65536)?] {
        memory.write(&[0; 65536]);
        let command = NvmeUringCmd { cdw12: 7, ..transfer(READ, &memory, 0) };
        assert_eq!(rig.io(&command)?, 0);
        pattern::check(2, 0, &memory.read()[..4096]);
    }
    Ok(())
}

fn ordinary_transfers_follow_commands_of_all_words(bench: &Bench) -> Outcome {
    bench.command_name(false)?;
    if !bench.is_device() {
        return skip("the kernel's character device serves no other operations");
    }
    let mut rig = bench.command_rig()?;
    let memory = rig.alloc(4096)?;
    rig.register(&[&memory])?;
    // More than the queue has slots: none keeps the words of a command.
    for round in 0..3u64 {
        let all = NvmeUringCmd { cdw2: 1, cdw3: 2, cdw13: 0, cdw14: 4, cdw15: 5, ..transfer(READ, &memory, 0) };
        for _ in 0..20 {
            rig.io(&all)?;
        }
        for i in 0..40 {
            rig.put(round, i * 4096, 4096)?;
            rig.expect(round, i * 4096, 4096)?;
        }
    }
    Ok(())
}

fn commands_among_each_other_all_complete(bench: &Bench) -> Outcome {
    let mut rig = bench.command_rig()?;
    let mut other = bench.rig(4)?;
    let memory = rig.plain(256 * 4096);
    other.put(12, 0, 256 * 4096)?;
    let mut done = Vec::new();
    for i in 0..256usize {
        // Every third is none, every fifth begins at an odd address.
        let part = memory.part(i * 4096 + usize::from(i % 5 == 0), 2048);
        let command = match i % 3 {
            0 => NvmeUringCmd { opcode: 0xff, nsid: 1, ..Default::default() },
            _ => transfer(READ, &part, i as u64 * 4096),
        };
        let mut entry = entry(NVME_URING_CMD_IO, &command);
        entry.set_user_data(i as u64);
        while rig.push(&entry).is_err() {
            rig.ring.submit_and_wait(1)?;
            done.extend(rig.ready());
        }
    }
    while done.len() < 256 {
        rig.ring.submit_and_wait(1)?;
        done.extend(rig.ready());
    }
    done.sort_by_key(|done| done.user_data);
    for (i, done) in done.iter().enumerate() {
        assert_eq!((done.user_data, done.res & CODE), (i as u64, i32::from(i % 3 == 0)), "{done:?}");
        if i % 3 != 0 {
            let part = memory.part(i * 4096 + usize::from(i % 5 == 0), 2048);
            pattern::check(12, i as u64 * 4096, &part.read());
        }
    }
    Ok(())
}

fn commands_want_both_entries_large(bench: &Bench) -> Outcome {
    let name = bench.command_name(false)?;
    let bench = Bench { name, ..bench.clone() };
    for op in [NVME_URING_CMD_IO, NVME_URING_CMD_IO_VEC] {
        let flush = NvmeUringCmd { opcode: FLUSH, nsid: 1, ..Default::default() };
        let mut rig = bench.rig(4)?;
        let small = opcode::UringCmd16::new(FILE, op).build();
        expect_errno(rig.one(small.clone())?, libc::EOPNOTSUPP, "small entries");
        let mut rig = bench.open(bench.builder(4).cqe32())?;
        expect_errno(rig.one(small)?, libc::EOPNOTSUPP, "a small submission entry");
        let mut rig = bench.open(bench.builder(4).sqe128())?;
        expect_errno(rig.command(entry(op, &flush))?.0, libc::EOPNOTSUPP, "a small completion entry");
        let mut rig = bench.open(bench.builder(4).sqe128().cqe32())?;
        assert_eq!(rig.command(entry(op, &flush))?.0, 0);
    }
    Ok(())
}

fn admin_commands_are_answered_with_their_result(bench: &Bench) -> Outcome {
    let mut rig = bench.admin_rig()?;
    let memory = rig.plain(8192);
    let identify =
        NvmeUringCmd { opcode: IDENTIFY, addr: memory.address(), data_len: 4096, cdw10: 1, ..NvmeUringCmd::default() };
    assert_eq!(rig.command(entry(NVME_URING_CMD_ADMIN, &identify))?, (0, [0; 2]));
    let data = memory.part(0, 4096).read();
    // Required and maximum entry sizes, and the number of namespaces.
    assert_eq!((data[512], data[513]), (0x66, 0x44));
    assert_ne!(data[516..520], [0; 4]);
    // In pieces, at odd addresses.
    let parts = [memory.part(4097, 1000), memory.part(5100, 3000), memory.part(1, 96)];
    let iovecs: Vec<_> = parts.iter().map(Memory::iovec).collect();
    let vector = NvmeUringCmd { addr: rig.iovecs(&iovecs) as u64, data_len: 3, ..identify };
    assert_eq!(rig.command(entry(NVME_URING_CMD_ADMIN_VEC, &vector))?.0, 0);
    assert_eq!(parts.iter().flat_map(Memory::read).collect::<Vec<u8>>(), data);
    // Number of Queues: both counts are in dword 0.
    let queues = NvmeUringCmd { opcode: GET_FEATURES, cdw10: 7, ..NvmeUringCmd::default() };
    let (res, result) = rig.command(entry(NVME_URING_CMD_ADMIN, &queues))?;
    assert!(res == 0 && result[0] & 0xffff != 0 && result[0] >> 16 != 0 && result[1] == 0, "{res} {result:x?}");
    let unknown = NvmeUringCmd { opcode: 0xff, ..NvmeUringCmd::default() };
    let res = rig.command(entry(NVME_URING_CMD_ADMIN, &unknown))?.0;
    assert!(res > 0 && res & CODE == 1, "Invalid Command Opcode: {res:#x}");
    let flags = NvmeUringCmd { flags: 1, ..identify };
    expect_errno(rig.command(entry(NVME_URING_CMD_ADMIN, &flags))?.0, libc::EINVAL, "flags");
    let metadata = NvmeUringCmd { metadata: memory.address(), metadata_len: 8, ..identify };
    expect_errno(rig.command(entry(NVME_URING_CMD_ADMIN, &metadata))?.0, libc::EINVAL, "metadata");
    Ok(())
}

fn admin_commands_want_consent(bench: &Bench) -> Outcome {
    bench.command_name(false)?;
    if !bench.is_device() {
        return skip("the kernel asks for CAP_SYS_ADMIN");
    }
    let mut rig = bench.command_rig()?;
    let queues = NvmeUringCmd { opcode: GET_FEATURES, cdw10: 7, ..NvmeUringCmd::default() };
    for op in [NVME_URING_CMD_ADMIN, NVME_URING_CMD_ADMIN_VEC] {
        expect_errno(rig.command(entry(op, &queues))?.0, libc::EACCES, "an admin command");
    }
    let mut rig = bench.admin_rig()?;
    // Delete I/O Submission Queue 1, which is this ring's, and what else is the driver's own.
    for (opcode, cdw10) in [(0x00, 1), (0x01, 1), (0x04, 1), (0x05, 1), (0x0c, 0), (0x7c, 0), (0x80, 0), (0x09, 7)] {
        let command = NvmeUringCmd { opcode, cdw10, ..NvmeUringCmd::default() };
        expect_errno(rig.command(entry(NVME_URING_CMD_ADMIN, &command))?.0, libc::EPERM, &format!("{opcode:#x}"));
    }
    rig.put(1, 0, 4096)?;
    rig.expect(1, 0, 4096)
}
