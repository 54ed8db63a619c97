//! placeholder
/// x
#[derive(Debug)]
pub struct DmaFile;
