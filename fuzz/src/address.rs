//! Where we connect to: URLs, the ranges of `network.allow`, and which addresses are public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pushpull::wire::net::{Allow, Target, is_public};

/// The judgement under test.
pub type IsPublic = fn(IpAddr) -> bool;

/// Holds the program's filter against the judge's. The first sixteen bytes are an address, the rest lines of ranges and
/// of URLs.
pub fn check(data: &[u8]) {
    check_with(is_public, data);
}

/// The same of anybody's judgement.
pub fn check_with(is_public: IsPublic, data: &[u8]) {
    let Some((octets, rest)) = data.split_first_chunk::<16>() else { return };
    let [a, b, c, d, ..] = *octets;
    let addresses = [IpAddr::from(*octets), IpAddr::from([a, b, c, d])];
    for address in addresses {
        assert_eq!(is_public(address), public(address), "{address}");
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    for line in text.lines() {
        range(line, addresses);
        url(line);
    }
    let all = Allow::parse(text.lines());
    assert_eq!(all.is_ok(), text.lines().all(|line| Allow::parse([line]).is_ok()));
    if let Ok(all) = all {
        for address in addresses {
            let covered = text.lines().any(|line| Allow::parse([line]).is_ok_and(|one| one.covers(address)));
            assert_eq!(all.covers(address), covered, "{address}");
            assert_eq!(all.permits(address), covered || public(address), "{address}");
        }
    }
}

fn range(line: &str, addresses: [IpAddr; 2]) {
    let read = Allow::parse([line]);
    let Some((base, prefix)) = bits(line) else { return assert!(read.is_err(), "{line:?} is taken for a range") };
    let ends = ends(base, prefix);
    let Ok(allow) = read else { return assert!(ends.0 != base, "{line:?} is refused without need") };
    assert_eq!(ends.0, base, "bits are set behind the prefix of {line:?}");
    for address in addresses.into_iter().chain([ends.0, ends.1]) {
        let inside = base.is_ipv4() == address.is_ipv4() && ends.0 <= address && address <= ends.1;
        assert_eq!(allow.covers(address), inside, "{address} in {line:?}");
    }
}

/// The parts of ADDRESS or ADDRESS/PREFIX.
fn bits(line: &str) -> Option<(IpAddr, u32)> {
    let (base, prefix) = line.split_once('/').map_or((line, None), |(base, prefix)| (base, Some(prefix)));
    let base: IpAddr = base.parse().ok()?;
    let most = if base.is_ipv4() { 32 } else { 128 };
    let Some(prefix) = prefix else { return Some((base, most)) };
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.trim_start_matches('0');
    let prefix = if prefix.is_empty() { 0 } else { prefix.parse::<u32>().ok()? };
    (digits && prefix <= most).then_some((base, prefix))
}

/// The first and the last address of a range.
fn ends(base: IpAddr, prefix: u32) -> (IpAddr, IpAddr) {
    match base {
        IpAddr::V4(base) => {
            let rest = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let base = u32::from(base);
            (Ipv4Addr::from(base & !rest).into(), Ipv4Addr::from(base | rest).into())
        }
        IpAddr::V6(base) => {
            let rest = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let base = u128::from(base);
            (Ipv6Addr::from(base & !rest).into(), Ipv6Addr::from(base | rest).into())
        }
    }
}

/// By first and last addresses, from the registries of IANA (RFC 6890 and its successors).
fn public(address: IpAddr) -> bool {
    const V4: [(&str, &str); 14] = [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "255.255.255.255"),
    ];
    const V6: [(&str, &str); 6] = [
        ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];
    type Range = (IpAddr, IpAddr);
    static SPECIAL: std::sync::LazyLock<Vec<Range>> = std::sync::LazyLock::new(|| {
        let ip = |text: &str| text.parse().expect("an address");
        V4.iter().chain(&V6).map(|(first, last)| (ip(first), ip(last))).collect()
    });
    !SPECIAL.iter().any(|(first, last)| first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last)
}

fn url(line: &str) {
    let Ok(target) = Target::parse(line) else { return };
    let shown = target.to_string();
    let shown = shown.strip_suffix("?…").unwrap_or(&shown);
    assert!(shown.is_ascii() && !shown.contains(['#', '\\', ' ']) && target.port() != 0, "{shown}");
    let authority = target.authority();
    assert!(!authority.contains(['@', '/', '?']) && shown.contains(&format!("://{authority}/")), "{shown}");
    assert!(target.path().as_str().starts_with('/'), "{shown}");
    let host = target.host();
    assert!(!host.is_empty());
    // What looks like an address to anybody has to be one for the filter.
    assert_eq!(target.address(), host.parse::<IpAddr>().ok(), "{shown}");
    // With more than one dot at its end no resolver takes it for a name or an address.
    let last = host.strip_suffix('.').unwrap_or(&host).rsplit('.').next().unwrap_or_default();
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_decimal = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let numeric = is_decimal(last) || last.strip_prefix("0x").is_some_and(is_hex);
    assert!(target.address().is_some() || !numeric, "{shown} is an address to some");
    let again = Target::parse(shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!((again.host(), again.port(), again.is_secure()), (host, target.port(), target.is_secure()));
    assert_eq!(again.path().path(), target.path().path());
    assert!(!target.clone().with_http_scheme().is_websocket() && target.clone().with_websocket_scheme().is_websocket());
}
