//! I/O commands of the NVM command set.

use super::cache::Cache;
use super::config::ModelNamespace;
use super::memory::{DmaFault, Memory};
use super::prp;
use super::storage::Storage;
use crate::spec::command::{Command, FUA, nvm};
use crate::spec::status::Status;

/// Protection information action and checks, bits 29:26 of dword 12.
const PRINFO: u32 = 0xf << 26;

/// Carries a command out.
pub(super) fn execute(
    command: &Command,
    namespaces: &[ModelNamespace],
    cache: &mut Cache,
    memory: &Memory,
    most_bytes: Option<u64>,
    buffer: &mut Vec<u8>,
) -> Result<(), Status> {
    let opcode = command.cdw0 as u8;
    // Neither fused operations nor SGLs (bits 9:8 and 15:14 of dword 0).
    if command.cdw0 & 0xc300 != 0 {
        return Err(Status::INVALID_FIELD);
    }
    if opcode == nvm::FLUSH && command.nsid == u32::MAX {
        return cache.flush_all(namespaces).map_err(|_| Status::INTERNAL_ERROR);
    }
    let index = (command.nsid as usize).wrapping_sub(1);
    let namespace = namespaces.get(index).ok_or(Status::INVALID_NAMESPACE)?;
    match opcode {
        nvm::FLUSH => cache.flush(index, namespace).map_err(|_| Status::WRITE_FAULT),
        nvm::READ => {
            let (offset, len) = range(command, namespace)?;
            let pieces = data(command, memory, len, most_bytes)?;
            resize(buffer, len);
            namespace.storage.read(offset, buffer).map_err(|_| Status::UNRECOVERED_READ_ERROR)?;
            scatter(memory, &pieces, buffer)
        }
        nvm::WRITE => {
            let (offset, len) = writable_range(command, namespace)?;
            let pieces = data(command, memory, len, most_bytes)?;
            resize(buffer, len);
            gather(memory, &pieces, buffer)?;
            let durable = command.cdw12 & FUA != 0;
            let write = |storage: &Storage| storage.write(offset, buffer);
            cache.change(index, namespace, (offset, len), durable, write).map_err(|_| Status::WRITE_FAULT)
        }
        nvm::COMPARE => {
            let (offset, len) = range(command, namespace)?;
            let pieces = data(command, memory, len, most_bytes)?;
            let mut stored = vec![0; len as usize];
            namespace.storage.read(offset, &mut stored).map_err(|_| Status::UNRECOVERED_READ_ERROR)?;
            resize(buffer, len);
            gather(memory, &pieces, buffer)?;
            if *buffer == stored { Ok(()) } else { Err(Status::COMPARE_FAILURE) }
        }
        nvm::WRITE_ZEROES => {
            let (offset, len) = writable_range(command, namespace)?;
            let durable = command.cdw12 & FUA != 0;
            let zero = |storage: &Storage| storage.zero(offset, len);
            cache.change(index, namespace, (offset, len), durable, zero).map_err(|_| Status::WRITE_FAULT)
        }
        nvm::DATASET_MANAGEMENT => deallocate(command, index, namespace, cache, memory),
        _ => Err(Status::INVALID_OPCODE),
    }
}

/// The bytes that a command names, checked against the namespace.
fn range(command: &Command, namespace: &ModelNamespace) -> Result<(u64, u64), Status> {
    if command.cdw12 & PRINFO != 0 {
        return Err(Status::INVALID_PROTECTION);
    }
    let first = u64::from(command.cdw10) | u64::from(command.cdw11) << 32;
    let blocks = u64::from(command.cdw12 & 0xffff) + 1;
    bytes_of(first, blocks, namespace)
}

fn writable_range(command: &Command, namespace: &ModelNamespace) -> Result<(u64, u64), Status> {
    if namespace.write_protected {
        return Err(Status::NAMESPACE_WRITE_PROTECTED);
    }
    range(command, namespace)
}

fn bytes_of(first: u64, blocks: u64, namespace: &ModelNamespace) -> Result<(u64, u64), Status> {
    let size = namespace.storage.len() >> namespace.block_shift;
    match first.checked_add(blocks) {
        Some(end) if end <= size => Ok((first << namespace.block_shift, blocks << namespace.block_shift)),
        _ => Err(Status::LBA_OUT_OF_RANGE),
    }
}

fn data(command: &Command, memory: &Memory, len: u64, most: Option<u64>) -> Result<Vec<(u64, u64)>, Status> {
    if most.is_some_and(|most| len > most) {
        return Err(Status::INVALID_FIELD);
    }
    prp::walk(memory, command.prp1, command.prp2, len)
}

fn resize(buffer: &mut Vec<u8>, len: u64) {
    buffer.resize(len as usize, 0);
}

fn scatter(memory: &Memory, pieces: &[(u64, u64)], data: &[u8]) -> Result<(), Status> {
    let mut at = 0;
    for (iova, len) in pieces {
        let end = at + *len as usize;
        memory.write(*iova, &data[at..end]).map_err(|DmaFault| Status::DATA_TRANSFER_ERROR)?;
        at = end;
    }
    Ok(())
}

fn gather(memory: &Memory, pieces: &[(u64, u64)], data: &mut [u8]) -> Result<(), Status> {
    let mut at = 0;
    for (iova, len) in pieces {
        let end = at + *len as usize;
        memory.read(*iova, &mut data[at..end]).map_err(|DmaFault| Status::DATA_TRANSFER_ERROR)?;
        at = end;
    }
    Ok(())
}

/// Dataset Management (NVM section 3.2.3): only the Deallocate attribute does something.
fn deallocate(
    command: &Command,
    index: usize,
    namespace: &ModelNamespace,
    cache: &mut Cache,
    memory: &Memory,
) -> Result<(), Status> {
    if namespace.write_protected {
        return Err(Status::NAMESPACE_WRITE_PROTECTED);
    }
    let ranges = u64::from(command.cdw10 & 0xff) + 1;
    let pieces = prp::walk(memory, command.prp1, command.prp2, ranges * 16)?;
    let mut list = vec![0; ranges as usize * 16];
    gather(memory, &pieces, &mut list)?;
    let parse = |range: &[u8]| {
        let blocks = u32::from_le_bytes(range[4..8].try_into().expect("4 bytes"));
        let first = u64::from_le_bytes(range[8..16].try_into().expect("8 bytes"));
        bytes_of(first, blocks.into(), namespace)
    };
    let ranges = list.chunks_exact(16).map(parse).collect::<Result<Vec<_>, _>>()?;
    if command.cdw11 & (1 << 2) == 0 {
        return Ok(());
    }
    for (offset, len) in ranges {
        let zero = |storage: &Storage| storage.zero(offset, len);
        cache.change(index, namespace, (offset, len), false, zero).map_err(|_| Status::WRITE_FAULT)?;
    }
    Ok(())
}
