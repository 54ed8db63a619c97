//! .

use crate::case::{Case, cases};

pub(super) const ALL: &[Case] = cases![];
