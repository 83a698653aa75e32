"""Who really asks: nobody chooses it by a header, proxies of ours are believed, and only they."""

import pytest

from tests.tables import table
from workers.console.peers import FORWARDING, Peers, forwarded

CALLERS = table("""
    no proxy | [] | 127.0.0.1 | 203.0.113.9 | 127.0.0.1
    a proxy that nobody trusts | [] | 10.0.0.2 | 203.0.113.9 | 10.0.0.2
    a proxy of ours | ["10.0.0.2"] | 10.0.0.2 | 203.0.113.9 | 203.0.113.9
    a caller's own words before it | ["10.0.0.0/8"] | 10.0.0.2 | 1.1.1.1, 203.0.113.9 | 203.0.113.9
    two proxies of ours | ["10.0.0.0/8"] | 10.0.0.2 | 1.1.1.1, 203.0.113.9, 10.0.0.7 | 203.0.113.9
    all are ours | ["10.0.0.0/8"] | 10.0.0.2 | 10.0.0.7 | 10.0.0.2
    junk | ["10.0.0.2"] | 10.0.0.2 | 203.0.113.9, unknown | 10.0.0.2
    no header | ["10.0.0.2"] | 10.0.0.2 | "" | 10.0.0.2
    IPv6 | ["fd00::/8"] | fd00::2 | 2001:db8::9 | 2001:db8::/64
    IPv6 with brackets and port | ["::1"] | ::1 | [2001:db8::9]:443 | 2001:db8::/64
    another address of the same caller | ["::1"] | ::1 | 2001:db8:0:0:dead:beef:1:2 | 2001:db8::/64
    the next network | ["::1"] | ::1 | 2001:db8:0:1::9 | 2001:db8:0:1::/64
    IPv6 without a proxy | [] | 2001:db8::9 | "" | 2001:db8::/64
    a proxy that writes the port | ["10.0.0.2"] | 10.0.0.2 | 203.0.113.9:51234 | 203.0.113.9
    a port without an address | ["10.0.0.2"] | 10.0.0.2 | :51234 | 10.0.0.2
    junk behind brackets | ["10.0.0.2"] | 10.0.0.2 | [2001:db8::9]evil | 10.0.0.2
    IPv4 in IPv6 without a proxy | [] | ::ffff:203.0.113.9 | "" | 203.0.113.9
    no address | [] | testclient | "" | testclient
    IPv4 in IPv6 | ["10.0.0.2"] | ::ffff:10.0.0.2 | 203.0.113.9 | 203.0.113.9
""")


@pytest.mark.parametrize("case", CALLERS)
def test_the_caller_is_whom_our_proxies_name(case):
    trusted, peer, told, caller = CALLERS[case]
    assert Peers(trusted).caller(peer, {"x-forwarded-for": told} if told else {}) == caller


def test_host_and_scheme_are_the_proxys_only_where_it_is_ours():
    headers = {
        "host": "127.0.0.1:8080",
        "x-forwarded-host": "push.example.com",
        "x-forwarded-proto": "https",
    }
    ours, nobody = Peers(["127.0.0.1"]), Peers(())
    found = (ours.host("127.0.0.1", headers), nobody.host("127.0.0.1", headers))
    assert found == ("push.example.com", "127.0.0.1:8080")
    over_tls = ours.over_tls("127.0.0.1", headers, "http")
    assert (over_tls, nobody.over_tls("127.0.0.1", headers, "http")) == (True, False)


def test_a_proxy_shows_itself():
    assert all(forwarded({name: "x"}, "1.1") for name in FORWARDING)
    assert forwarded({"host": "127.0.0.1:8080"}, "1.0"), "nginx as it comes"
    assert not forwarded({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, "1.1")
