//! Which addresses are the site's own, by the registries of
//! [special-purpose addresses](https://www.iana.org/assignments/iana-ipv4-special-registry).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Azure's hosts answer their guests there, under an address that looks like any other.
const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Whether packets to this address stay on the machine or the site, or belong nowhere on the Internet.
pub(super) fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_inside_v4(v4),
        IpAddr::V6(v6) => match carried(v6) {
            Some(v4) => is_inside_v4(v4),
            None => is_inside_v6(v6),
        },
    }
}

fn is_inside_v4(v4: Ipv4Addr) -> bool {
    if v4 == AZURE {
        return true;
    }
    match v4.octets() {
        // This host, private networks, those of carriers, loopback, link-local.
        [0 | 10 | 127, ..] | [172, 16..=31, ..] | [192, 168, ..] => true,
        [100, 64..=127, ..] | [169, 254, ..] => true,
        // Protocols (192.0.0.192 is a metadata service), a relay that is no more, and documents.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Measurements; multicast, and what was never given out.
        [198, 18 | 19, ..] | [224..=255, ..] => true,
        _ => false,
    }
}

fn is_inside_v6(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        // Protocols, Teredo among them, and documents.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => true,
        // The rest of 2000::/3 is all that is routed between sites.
        [0x2000..=0x3fff, ..] => false,
        _ => true,
    }
}

/// The IPv4 address to which packets for `v6` are handed on.
fn carried(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match v6.segments() {
        // `::` and `::1` are of IPv6 alone; both count as inside either way.
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        // NAT64, and the part of its local prefix in which the address stands at the end for sure.
        | [0x64, 0xff9b, 0 | 1, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn tells_inside_from_outside() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            // What is for protocols, tests and documents, or for nothing.
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "240.0.0.1",
            "168.63.129.16",
            "100.127.255.255",
            "100.100.100.200",
            "fec0::1",
            "fd00:ec2::254",
            "100::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "5f00::1",
            // IPv4 addresses in other clothes.
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::192.168.1.1",
            "64:ff9b:1:a00:0:100::",
            "64:ff9b:1:a00:0:100:101:101",
            "64:ff9b:2::1.1.1.1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
            "::127.0.0.1",
            "::10.0.0.1",
            "::ffff:0:10.0.0.1",
        ] {
            assert!(is_inside(address(inside)), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "168.63.129.17",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1",
            "2001:200::1",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "64:ff9b:1::1.1.1.1",
            "2002:101:101::1",
            "::1.1.1.1",
            "::ffff:0:1.1.1.1",
        ] {
            assert!(!is_inside(address(outside)), "{outside}");
        }
    }
}
