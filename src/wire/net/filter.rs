//! Which addresses may be connected to: public ones, and those that the operator allows. Names are resolved first and
//! the address that was checked is the one dialled, so that no DNS answer leads into the operator's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ranges that outgoing connections may use although they are not public (`network.allow`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Allow(Vec<Range>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Range {
    base: IpAddr,
    prefix: u8,
}

/// Why a range of `network.allow` is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid address range {text:?}: {fault}")]
pub struct InvalidRange {
    text: String,
    fault: &'static str,
}

impl Allow {
    /// Reads ranges like `10.1.0.0/16`, `::1/128` or `192.0.2.7`.
    pub fn parse<'a>(ranges: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidRange> {
        ranges.into_iter().map(Range::parse).collect::<Result<_, _>>().map(Self)
    }

    /// A connection to this address may be opened: it is public, or one of the ranges covers it.
    pub fn permits(&self, address: IpAddr) -> bool {
        is_public(address) || self.covers(address)
    }

    /// One of the ranges covers this address. IPv4-mapped IPv6 addresses are covered by IPv6 ranges only.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }
}

impl Range {
    fn parse(text: &str) -> Result<Self, InvalidRange> {
        let invalid = |fault| InvalidRange { text: text.to_owned(), fault };
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| invalid("expected an address like 10.0.0.0/8 or ::1"))?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
            Some(_) => None,
            None => Some(bits),
        };
        let prefix =
            prefix.filter(|prefix| *prefix <= bits).ok_or_else(|| invalid("the prefix length is out of range"))?;
        let range = Self { base, prefix };
        // A range like 10.1.2.3/8 is more often a slip than meant.
        if mask(bits_of(base), prefix, bits) == bits_of(base) {
            Ok(range)
        } else {
            Err(invalid("bits are set behind the prefix; clear them or lengthen the prefix"))
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        let bits = if self.base.is_ipv4() { 32 } else { 128 };
        self.base.is_ipv4() == address.is_ipv4() && mask(bits_of(address), self.prefix, bits) == bits_of(self.base)
    }
}

/// The address is one that the whole Internet routes to one place.
///
/// Stricter than the IANA registries in doubt: addresses that embed others (IPv4-mapped, NAT64, 6to4, Teredo) are not
/// public whatever they embed, since a translator would take the connection where this check does not look.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4
            .iter()
            .any(|(base, prefix)| mask(u32::from(address).into(), *prefix, 32) == u128::from(u32::from(*base))),
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            // Outside of 2000::/3 nothing is global unicast: ::/8 (mapped, compatible, NAT64), 5f00::/16, fc00::/7,
            // fe80::/10, fec0::/10, ff00::/8 and whatever is assigned later.
            mask(bits, 3, 128) == u128::from(GLOBAL_UNICAST)
                && !NOT_PUBLIC_V6.iter().any(|(base, prefix)| mask(bits, *prefix, 128) == u128::from(*base))
        }
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The first `prefix` of `bits` bits.
fn mask(value: u128, prefix: u8, bits: u8) -> u128 {
    let rest = u32::from(bits.saturating_sub(prefix));
    value.checked_shr(rest).and_then(|kept| kept.checked_shl(rest)).unwrap_or(0)
}

const GLOBAL_UNICAST: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);

const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network (RFC 791)
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private (RFC 1918)
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // carrier-grade NAT (RFC 6598)
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, cloud metadata services
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments (RFC 6890)
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation (RFC 5737)
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays (RFC 7526)
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking (RFC 2544)
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved
    (Ipv4Addr::BROADCAST, 32),
];

const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo, benchmarking (RFC 2928)
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation (RFC 3849)
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4 (RFC 3056)
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation (RFC 9637)
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn special_purpose_addresses_are_not_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.9",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:8.8.8.8",
            "::7f00:1",
            "::8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:0:4136:e378::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(!is_public(ip(text)), "{text}");
            assert!(!Allow::default().permits(ip(text)), "{text}");
        }
    }

    #[test]
    fn ordinary_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "2a00:1450::1",
            "3ffe::1",
        ] {
            assert!(is_public(ip(text)), "{text}");
        }
    }

    #[test]
    fn allowed_ranges_open_exactly_what_they_cover() {
        let allow = Allow::parse(["127.0.0.0/8", "::1", "10.1.0.0/16", "64:ff9b::/96"]).unwrap();
        for text in ["127.0.0.1", "127.255.255.255", "::1", "10.1.255.255", "64:ff9b::8.8.8.8", "8.8.8.8"] {
            assert!(allow.permits(ip(text)), "{text}");
        }
        for text in
            ["10.0.255.255", "10.2.0.0", "::2", "::ffff:127.0.0.1", "::7f00:1", "64:ff9b:0:0:0:1::", "128.0.0.1/"]
        {
            assert!(text.parse().map_or(true, |address| !allow.covers(address)), "{text}");
        }
        assert!(!allow.covers(ip("8.8.8.8")), "public, but not by a range");
        let all = Allow::parse(["0.0.0.0/0", "::/0"]).unwrap();
        assert!(all.permits(ip("255.255.255.255")) && all.permits(ip("ff02::1")));
    }

    #[test]
    fn malformed_ranges_are_refused_by_name() {
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.1/8",
            "10.0.0.0/8/8",
            "010.0.0.1",
            "fe80::1%eth0",
        ] {
            let refused = Allow::parse([text]).expect_err(text).to_string();
            assert!(refused.contains(&format!("{text:?}")), "{refused}");
        }
    }
}
