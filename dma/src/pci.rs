//! PCI addresses as Linux writes them: `domain:bus:device.function`, in hexadecimal.
//!
//! ```text
//! 0000:00:04.0
//! |    |  |  '- function  0-7    (3 bits)
//! |    |  '---- device    00-1f  (5 bits)
//! |    '------- bus       00-ff
//! '------------ domain    0000 on most machines; wider behind Intel VMD (10000:e1:00.0)
//! ```

use std::fmt;
use std::str::FromStr;

/// The address of one PCI function.
///
/// Ordered as sysfs lists functions: by domain, bus, device, function. `Display` gives the exact
/// name of the function's folder in `/sys/bus/pci/devices`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// PCI segment; 0 on most machines, more than 16 bits behind Intel VMD.
    pub domain: u32,
    /// Bus, 0 to 255.
    pub bus: u8,
    /// Device on the bus, 0 to 31.
    pub device: u8,
    /// Function of the device, 0 to 7.
    pub function: u8,
}

/// Why a text is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a PCI address: {reason}; the form is domain:bus:device.function in hexadecimal, such as 0000:00:04.0 (the domain may be left out)"
)]
pub struct PciAddressError {
    text: String,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("it has no function (the digit after the dot)")]
    NoFunction,
    #[error("it has {0} colons where one or two are wanted")]
    Colons(usize),
    #[error("the {field} is empty")]
    Empty { field: &'static str },
    #[error("the {field} `{digits}` is not a hexadecimal number")]
    NotHex { field: &'static str, digits: String },
    #[error("the {field} `{digits}` is more than {max:x}")]
    TooLarge { field: &'static str, digits: String, max: u32 },
}

impl PciAddress {
    fn parse(text: &str) -> Result<Self, Reason> {
        let (place, function) = text.rsplit_once('.').ok_or(Reason::NoFunction)?;
        let parts: Vec<&str> = place.split(':').collect();
        let (domain, bus, device) = match parts[..] {
            [bus, device] => ("0", bus, device),
            [domain, bus, device] => (domain, bus, device),
            _ => return Err(Reason::Colons(parts.len() - 1)),
        };
        Ok(Self {
            domain: field("domain", domain, u32::MAX)?,
            bus: byte_field("bus", bus, 0xff)?,
            device: byte_field("device", device, 31)?,
            function: byte_field("function", function, 7)?,
        })
    }
}

fn field(field: &'static str, digits: &str, max: u32) -> Result<u32, Reason> {
    if digits.is_empty() {
        return Err(Reason::Empty { field });
    }
    // from_str_radix alone would accept a leading `+`.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Reason::NotHex { field, digits: digits.to_owned() });
    }
    match u32::from_str_radix(digits, 16) {
        Ok(value) if value <= max => Ok(value),
        _ => Err(Reason::TooLarge { field, digits: digits.to_owned(), max }),
    }
}

fn byte_field(name: &'static str, digits: &str, max: u8) -> Result<u8, Reason> {
    let value = field(name, digits, u32::from(max))?;
    Ok(u8::try_from(value).unwrap_or(max))
}

impl FromStr for PciAddress {
    type Err = PciAddressError;

    /// Reads `0000:00:04.0`, or `00:04.0` in domain 0; leading zeros may be left out.
    fn from_str(text: &str) -> Result<Self, PciAddressError> {
        Self::parse(text).map_err(|reason| PciAddressError { text: text.to_owned(), reason })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> PciAddress {
        text.parse().unwrap()
    }

    fn why(text: &str) -> String {
        text.parse::<PciAddress>().unwrap_err().to_string()
    }

    #[test]
    fn full_and_short_forms_are_the_same_address() {
        let want = PciAddress { domain: 0, bus: 0, device: 4, function: 0 };
        assert_eq!(ok("0000:00:04.0"), want);
        assert_eq!(ok("00:04.0"), want);
        assert_eq!(ok("0:4.0"), want);
        assert_eq!(want.to_string(), "0000:00:04.0");
    }

    #[test]
    fn display_is_the_name_in_sysfs() {
        for text in ["0000:00:04.0", "0001:ff:1f.7", "10000:e1:00.0"] {
            assert_eq!(ok(text).to_string(), text);
        }
        assert_eq!(ok("0000:FF:1F.7").to_string(), "0000:ff:1f.7");
    }

    #[test]
    fn limits_are_named() {
        assert!(why("0000:00:20.0").contains("the device `20` is more than 1f"));
        assert!(why("0000:00:04.8").contains("the function `8` is more than 7"));
        assert!(why("0000:100:04.0").contains("the bus `100` is more than ff"));
        assert!(why("100000000:00:04.0").contains("the domain `100000000` is more than ffffffff"));
    }

    #[test]
    fn junk_is_refused_with_the_form_shown() {
        for (text, reason) in [
            ("", "no function"),
            ("nvme0", "no function"),
            ("0000:00:04", "no function"),
            ("0000:00:04.", "the function is empty"),
            ("04.0", "0 colons"),
            ("1:2:3:4.0", "3 colons"),
            (":00:04.0", "the domain is empty"),
            ("0000:+1:04.0", "the bus `+1` is not a hexadecimal number"),
            ("0000:00:0g.0", "the device `0g` is not a hexadecimal number"),
            (" 0000:00:04.0", "the domain ` 0000` is not"),
            ("0000:00:04.0\n", "the function `0\n` is not"),
            ("0000:00:04.0.0", "the device `04.0` is not"),
        ] {
            let message = why(text);
            assert!(message.contains(reason), "{text:?} gave {message}");
            assert!(message.contains("such as 0000:00:04.0"), "{message}");
        }
    }

    #[test]
    fn order_is_by_domain_bus_device_function() {
        let mut all = [ok("1:0:0.0"), ok("0:1:0.0"), ok("0:0:a.0"), ok("0:0:9.1"), ok("0:0:9.0")];
        all.sort();
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["0000:00:09.0", "0000:00:09.1", "0000:00:0a.0", "0000:01:00.0", "0001:00:00.0"]);
    }
}
