//! Sizes as a user writes them.

/// Parses a size in bytes as fio does: `4k` is 4096. Suffixes k, m, g, t and p, in any case, are powers
/// of 1024; an `i` and a `b` may follow (`4KiB`, `4kb`).
///
/// # Errors
/// What is wrong with `text` and what to write instead.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong =
        |why: &str| format!("`{text}` is no size: {why}; write a number of bytes or one such as 4k, 512M or 1GiB");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    if text.starts_with('-') {
        return Err(wrong("it is negative"));
    }
    if number.is_empty() {
        return Err(wrong(if text.is_empty() { "it is empty" } else { "it does not begin with a number" }));
    }
    let shift = shift(&suffix.to_ascii_lowercase()).ok_or_else(|| wrong(&format!("`{suffix}` is no unit")))?;
    let number: u64 = number.parse().map_err(|_| wrong("it is beyond 64 bits"))?;
    number.checked_mul(1 << shift).ok_or_else(|| wrong("it is beyond 64 bits"))
}

fn shift(suffix: &str) -> Option<u32> {
    if suffix.is_empty() || suffix == "b" {
        return Some(0);
    }
    let unit = suffix.chars().next()?;
    let shift = match unit {
        'k' => 10,
        'm' => 20,
        'g' => 30,
        't' => 40,
        'p' => 50,
        _ => return None,
    };
    matches!(&suffix[1..], "" | "b" | "i" | "ib").then_some(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        let cases = [
            ("0", 0),
            ("0k", 0),
            ("1", 1),
            ("4096", 4096),
            ("512b", 512),
            ("4k", 4096),
            ("4K", 4096),
            ("4kb", 4096),
            ("4KiB", 4096),
            ("3m", 3 << 20),
            ("1g", 1 << 30),
            ("2Ti", 2 << 40),
            ("16383p", 16383 << 50),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_explained() {
        let cases = [
            ("", "empty"),
            ("-1", "negative"),
            ("k", "begin with a number"),
            ("1.5g", "`.5g`"),
            ("4 k", "` k`"),
            ("4x", "`x`"),
            ("4kk", "`kk`"),
            ("4é", "`é`"),
            ("4ké", "`ké`"),
            ("16384p", "64 bits"),
            ("18446744073709551616", "64 bits"),
        ];
        for (text, why) in cases {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(why) && error.contains("write"), "{text}: {error}");
        }
    }
}
