//! The volatile write cache and power cuts.

use dmaring::model::{ModelConfig, ModelNamespace, Storage};
use dmaring::spec::command::{Command, FUA, admin, nvm};
use dmaring::spec::log::{SMART, SmartLog};
use dmaring::spec::regs::{CC, CSTS, Csts};
use dmaring::spec::status::Status;
use proptest::prelude::*;

use super::host::Host;

const BLOCKS: usize = 64;

fn config() -> ModelConfig {
    ModelConfig { power_cuts: true, ..ModelConfig::ram(BLOCKS as u64 * 512).unwrap() }
}

fn write(host: &mut Host, lba: u64, blocks: u16, fill: u8, flags: u32) {
    host.data.write(&vec![fill; usize::from(blocks) * 512]);
    host.io(nvm::WRITE, lba, blocks, flags).unwrap();
}

/// The first byte of each block.
fn contents(host: &mut Host) -> Vec<u8> {
    let mut all = Vec::new();
    for lba in (0..BLOCKS as u64).step_by(16) {
        host.io(nvm::READ, lba, 16, 0).unwrap();
        all.extend(host.data.read(16 * 512).chunks(512).map(|block| {
            assert!(block.iter().all(|byte| *byte == block[0]), "no block is torn");
            block[0]
        }));
    }
    all
}

fn power_cut(host: &mut Host) {
    host.model.power_cut().unwrap();
    assert!(!host.is_ready());
    host.enable();
}

fn switch(on: u32) -> Command {
    Command { cdw10: 0x06, cdw11: on, ..Command::new(admin::SET_FEATURES) }
}

#[test]
fn a_power_cut_takes_what_was_not_made_safe() {
    let mut host = Host::new(config());
    write(&mut host, 0, 4, 1, 0);
    host.io(nvm::FLUSH, 0, 1, 0).unwrap();
    write(&mut host, 1, 1, 2, 0);
    write(&mut host, 2, 1, 3, FUA);
    assert_eq!(contents(&mut host)[..5], [1, 2, 3, 1, 0], "reads see the cache");
    power_cut(&mut host);
    assert_eq!(contents(&mut host)[..5], [1, 1, 3, 1, 0]);
    // A controller reset loses nothing.
    write(&mut host, 3, 1, 4, 0);
    host.enable();
    assert_eq!(contents(&mut host)[3], 4);
    power_cut(&mut host);
    assert_eq!(contents(&mut host)[3], 1);
}

#[test]
fn a_shutdown_and_switching_the_cache_off_make_everything_safe() {
    let mut host = Host::new(config());
    write(&mut host, 0, 1, 1, 0);
    host.admin(switch(0)).unwrap();
    write(&mut host, 1, 1, 2, 0);
    host.model.power_cut().unwrap();
    host.enable();
    assert_eq!(contents(&mut host)[..3], [1, 2, 0], "without a cache, writes are safe at once");
    let get = Command { cdw10: 0x06, ..Command::new(admin::GET_FEATURES) };
    assert_eq!(host.admin(get), Ok(1), "the power is back, and so is the cache");
    write(&mut host, 2, 1, 3, 0);
    let cc = dmaring_dma::Transport::read32(&host.model, CC);
    dmaring_dma::Transport::write32(&host.model, CC, cc | 1 << 14);
    assert_eq!(Csts(dmaring_dma::Transport::read32(&host.model, CSTS)).shst(), 2);
    power_cut(&mut host);
    assert_eq!(contents(&mut host)[..3], [1, 2, 3]);
    let smart = SmartLog::decode(host.log(SMART, 0, 512).unwrap().first_chunk().unwrap());
    assert_eq!((smart.power_cycles, smart.unsafe_shutdowns), (3, 1), "one of them was announced");
}

#[test]
fn a_controller_without_a_cache_loses_nothing_and_has_no_such_feature() {
    let mut host = Host::new(ModelConfig { volatile_write_cache: false, ..config() });
    assert_eq!(host.admin(switch(1)), Err(Status::INVALID_FIELD));
    write(&mut host, 0, 8, 1, 0);
    power_cut(&mut host);
    assert_eq!(contents(&mut host)[..9], [1, 1, 1, 1, 1, 1, 1, 1, 0]);
}

#[test]
fn a_cache_that_is_full_writes_back() {
    let bytes = 192u64 << 20;
    let namespace = ModelNamespace::new(Storage::ram(bytes).unwrap()).block_shift(12);
    let mut host = Host::new(ModelConfig { power_cuts: true, ..ModelConfig::new(vec![namespace]) });
    for lba in 0..bytes >> 13 {
        host.data.write(&[7; 8192]);
        host.io(nvm::WRITE, lba * 2, 2, 0).unwrap();
    }
    power_cut(&mut host);
    host.io(nvm::READ, 0, 1, 0).unwrap();
    assert_eq!(host.data.read(1), [7], "long since written back");
    // More zeroes at once than it holds.
    host.io(nvm::READ, (bytes >> 12) - 1, 1, 0).unwrap();
    let list = dmaring::spec::command::deallocate_range(0, (bytes >> 12) as u32);
    host.data.write(&list);
    host.run(1, Command::deallocate(1, 1, host.data.iova())).unwrap();
    power_cut(&mut host);
    host.io(nvm::READ, 0, 1, 0).unwrap();
    assert_eq!(host.data.read(1), [0]);
}

#[derive(Clone, Debug)]
enum Step {
    Write { lba: usize, blocks: usize, fill: u8, fua: bool },
    Zero { lba: usize, blocks: usize },
    Deallocate { lba: usize, blocks: usize },
    Flush,
    PowerCut,
}

fn steps() -> impl Strategy<Value = Step> {
    let range = || (0..BLOCKS).prop_flat_map(|lba| (Just(lba), 1..=(BLOCKS - lba).min(16)));
    prop_oneof![
        8 => (range(), 1u8.., any::<bool>())
            .prop_map(|((lba, blocks), fill, fua)| Step::Write { lba, blocks, fill, fua }),
        2 => range().prop_map(|(lba, blocks)| Step::Zero { lba, blocks }),
        2 => range().prop_map(|(lba, blocks)| Step::Deallocate { lba, blocks }),
        1 => Just(Step::Flush),
        2 => Just(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Against two arrays: what reads see, and what is safe.
    #[test]
    fn what_is_safe_stays_and_what_is_not_goes(program in prop::collection::vec(steps(), 1..60)) {
        let mut host = Host::new(config());
        let (mut seen, mut safe) = (vec![0u8; BLOCKS], vec![0u8; BLOCKS]);
        for step in program {
            match step {
                Step::Write { lba, blocks, fill, fua } => {
                    write(&mut host, lba as u64, blocks as u16, fill, if fua { FUA } else { 0 });
                    seen[lba..lba + blocks].fill(fill);
                    if fua {
                        safe[lba..lba + blocks].fill(fill);
                    }
                }
                Step::Zero { lba, blocks } => {
                    host.io(nvm::WRITE_ZEROES, lba as u64, blocks as u16, 0).unwrap();
                    seen[lba..lba + blocks].fill(0);
                }
                Step::Deallocate { lba, blocks } => {
                    host.data.write(&dmaring::spec::command::deallocate_range(lba as u64, blocks as u32));
                    host.run(1, Command::deallocate(1, 1, host.data.iova())).unwrap();
                    seen[lba..lba + blocks].fill(0);
                }
                Step::Flush => {
                    host.io(nvm::FLUSH, 0, 1, 0).unwrap();
                    safe.clone_from(&seen);
                }
                Step::PowerCut => {
                    power_cut(&mut host);
                    seen.clone_from(&safe);
                }
            }
            prop_assert_eq!(contents(&mut host), seen.clone());
        }
    }
}
