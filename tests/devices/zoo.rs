//! The guest with controllers of all kinds.

use dmaring_qemu::Vm;

pub(crate) fn vm(vm: Vm) -> Result<Vm, String> {
    Ok(vm)
}
