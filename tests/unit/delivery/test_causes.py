"""Why a lane stops: by what its answers were, in words, and whose trouble it is."""

import pycurl
import pytest

from common.model import Verdict
from workers.delivery.causes import WORDS, cause_of, in_words, whose_fault
from workers.transport.easy import failure
from workers.vendors.types import Outcome

CURL = {
    pycurl.E_PEER_FAILED_VERIFICATION: "tls_untrusted",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_COULDNT_RESOLVE_HOST: "dns",
    pycurl.E_COULDNT_RESOLVE_PROXY: "proxy",
    pycurl.E_COULDNT_CONNECT: "connect",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
}


@pytest.mark.parametrize("code", CURL)
def test_libcurls_words_have_their_cause(code: int) -> None:
    answer = failure(code, started=False, unprocessed=False, seconds=1.0)
    assert cause_of([Outcome(Verdict.UNAVAILABLE, answer.reason, words=answer.words)]) == CURL[code]


SAID = {
    ("503", ""): "server_error",
    ("reset", "the server did not process the stream"): "reset",
    (
        "refused",
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local "
        "issuer certificate",
    ): "tls_untrusted",
    ("refused", "[Errno -2] Name or service not known"): "dns",
    ("timeout", "the deadline passed"): "timeout",
    ("access", "SSL peer certificate or SSH remote key was not OK"): "tls_untrusted",
    ("access", "HTTP 500"): "access_token",
    ("refused", "the server's certificate is not to be trusted"): "tls_untrusted",
    ("refused", "TLS: sslv3 alert handshake failure"): "tls",
    ("refused", "the server did not agree on HTTP/2"): "tls",
    ("refused", "the name can't be resolved"): "dns",
    ("refused", "Connection refused"): "connect",
    ("refused", "the proxy h:3128: it refuses the connection (403)"): "proxy",
    ("timeout", "the proxy h:3128: no connection in time"): "proxy",
    ("timeout", "no connection in time"): "timeout",
    ("reset", "the connection was lost: ConnectionResetError"): "reset",
}


@pytest.mark.parametrize(("status", "words"), SAID)
def test_other_words_too(status: str, words: str) -> None:
    outcomes = [Outcome(Verdict.ACCEPTED, "200"), Outcome(Verdict.UNAVAILABLE, status, words=words)]
    assert cause_of(outcomes) == SAID[(status, words)]


def test_a_refused_credential_is_that_whatever_stands_beside_it() -> None:
    outcomes = [Outcome(Verdict.UNAVAILABLE, "503"), Outcome(Verdict.CREDENTIAL_REFUSED, "403")]
    assert cause_of(outcomes) == "credential"
    assert cause_of([Outcome(Verdict.ACCEPTED, "200"), Outcome(Verdict.REJECTED, "400")]) == ""


def test_many_lanes_that_stop_for_the_network_are_ones_own() -> None:
    assert whose_fault(["tls_untrusted"] * 9, 9) == "9 of 9 lanes: look at your own network"
    assert whose_fault(["dns", "connect"], 4) == "2 of 4 lanes: look at your own network"
    assert whose_fault(["dns", "connect"], 9) == ""
    assert whose_fault(["dns"], 1) == "", "one vendor alone is the vendor's trouble"
    assert whose_fault(["credential"] * 9, 9) == ""
    assert "9 条通道" in whose_fault(["timeout"] * 9, 9, "zh")


def test_every_cause_has_words() -> None:
    assert all(in_words("", cause, lang) for cause in WORDS for lang in ("en", "zh"))
    assert in_words("unavailable", "") == "unavailable"
    assert in_words("unavailable", "of_a_newer_version") == "unknown cause"
