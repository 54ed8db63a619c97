//! Walking a command's data pointer (section 4.1.1), as a device does: checked, and bounded by the
//! length of the data.

use super::memory::{DmaFault, Memory};
use crate::spec::status::Status;

const PAGE: u64 = 4096;
/// Entries of a full page of list.
const LIST_ENTRIES: u64 = PAGE / 8;

/// Where `len` bytes of data are, page by page: (address, length) in order.
pub(super) fn walk(memory: &Memory, prp1: u64, prp2: u64, len: u64) -> Result<Vec<(u64, u64)>, Status> {
    let mut pieces = Vec::new();
    if prp1 & 3 != 0 {
        return Err(Status::INVALID_PRP_OFFSET);
    }
    let first = len.min(PAGE - prp1 % PAGE);
    pieces.push((prp1, first));
    let mut left = len - first;
    if left == 0 {
        return Ok(pieces);
    }
    if left <= PAGE {
        if !prp2.is_multiple_of(PAGE) {
            return Err(Status::INVALID_PRP_OFFSET);
        }
        pieces.push((prp2, left));
        return Ok(pieces);
    }
    if prp2 & 7 != 0 {
        return Err(Status::INVALID_PRP_OFFSET);
    }
    let mut at = prp2;
    while left > 0 {
        let entry = read_entry(memory, at)?;
        let last_in_page = at % PAGE / 8 == LIST_ENTRIES - 1;
        if last_in_page && left > PAGE {
            // More pages follow than this slot could name: it leads to the next page of the list.
            if entry % PAGE != 0 {
                return Err(Status::INVALID_PRP_OFFSET);
            }
            at = entry;
            continue;
        }
        if entry % PAGE != 0 {
            return Err(Status::INVALID_PRP_OFFSET);
        }
        let piece = left.min(PAGE);
        pieces.push((entry, piece));
        left -= piece;
        at += 8;
    }
    Ok(pieces)
}

fn read_entry(memory: &Memory, at: u64) -> Result<u64, Status> {
    let mut bytes = [0; 8];
    memory.read(at, &mut bytes).map_err(|DmaFault| Status::DATA_TRANSFER_ERROR)?;
    Ok(u64::from_le_bytes(bytes))
}
