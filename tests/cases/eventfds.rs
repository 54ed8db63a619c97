pub(super) const ALL: &[crate::case::Case] = &[];
