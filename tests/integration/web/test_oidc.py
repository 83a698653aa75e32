"""Signing in by OpenID Connect, with an independent provider (oidc-provider-mock)
in this process.
"""

import json
import re
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from oidc_provider_mock import User, run_server_in_thread

from common.storage.users import ROLES
from tests.integration.web.conftest import call
from tests.integration.web.test_console import Browser, served
from workers.console.frame import BACK_CHARACTERS_MAX
from workers.console.oidc import OidcError, Provider, role_of
from workers.runtime import Runtime

CLIENT = "pushfleet-console"
USERS = (
    User(sub="u1", claims={"preferred_username": "olga", "groups": ["push-ops", "all"]}),
    User(sub="u2", claims={"preferred_username": "adam", "groups": ["push-admins"]}),
    User(sub="u3", claims={"preferred_username": "noone", "groups": ["sales"]}),
)


@pytest.fixture(scope="module")
def issuer():
    with run_server_in_thread(user_claims=USERS, require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def sso(fleet_settings, runtime, tmp_path, issuer):
    """(the base URL of a console that knows the provider, its runtime)"""
    secret = tmp_path / "client-secret"
    secret.write_text("s3cret\n")
    oidc_roles = ("operator=push-ops", "admin=push-admins")
    given = {"oidc_client_id": CLIENT, "oidc_secret_file": secret, "oidc_roles": oidc_roles}
    console_url = f"http://{fleet_settings.console_addr}"
    settings = replace(fleet_settings, oidc_issuer=issuer, console_url=console_url, **given)
    own = Runtime(settings, "sso")
    for base in served(own):
        yield base, own
    own.close()


def at_the_provider(target: str, sub: str) -> str:
    """What a person does there: says who they are; the address that the provider sends them back
    to.
    """
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = call(target, urllib.parse.urlencode({"sub": sub}).encode(), headers)
    assert answer.status in (302, 303), answer.text
    return next(value for name, value in answer.headers.items() if name.lower() == "location")


def begun(browser: Browser, back: str = "") -> str:
    """Where the console sends this browser, that is to come back to a page."""
    answer = call(browser.base + f"/login/oidc{back and '?back='}{back}", headers={"cookie": ""})
    assert answer.status == 303
    (cookie,) = re.findall(r"pushfleet-oidc=([^;]+)", str(answer.headers))
    browser.cookies["pushfleet-oidc"] = cookie.strip('"')
    return answer.headers["location"]


def signed_in(browser: Browser, sub: str, to: str = ""):
    back = at_the_provider(begun(browser, to), sub)
    return browser.go(back.removeprefix(browser.base))


def test_who_is_known_to_the_provider_signs_in_with_the_role_of_the_groups(sso):
    base, runtime = sso
    olga, adam, noone = (Browser(base) for _ in range(3))
    seen = "organisation"
    assert seen in olga.go("/").text, "the login page offers it, and nothing is open without it"
    page = signed_in(olga, "u1")
    assert page.status == 200
    assert page.headers["refresh"] == "0; url=/"
    assert "sso:olga (operator)" in olga.go("/lanes").text
    assert olga.go("/credentials/form?vendor=meizu").status == 403
    offered = adam.go("/messages?id=m1").text
    assert 'href="/login/oidc?back=%2Fmessages%3Fid%3Dm1"' in offered
    page = signed_in(adam, "u2", "/messages%3Fid%3Dm1")
    assert page.headers["refresh"] == "0; url=/messages?id=m1"
    assert adam.go("/credentials/form?vendor=meizu").status == 200
    refused = signed_in(noone, "u3")
    assert refused.status == 403
    assert "The sign-in was refused" in refused.text
    assert noone.go("/lanes").text.count("organisation") == 1
    found = {(row["who"], row["action"], row["result"]) for row in runtime.audit.listed()}
    assert found == {("sso:olga", "signed in", "operator"), ("sso:adam", "signed in", "admin")}
    runtime.users.add("vera", "viewer", "correct horse")
    vera = Browser(base)
    vera.log_in("vera")
    assert "vera (viewer)" in vera.go("/lanes").text, "passwords still work beside it"


def test_a_page_with_the_longest_address_is_come_back_to(sso):
    page = "/people?" + urllib.parse.urlencode({"app": "demo", "user": "张" * 219})
    assert BACK_CHARACTERS_MAX - 10 < len(page) <= BACK_CHARACTERS_MAX
    answer = signed_in(Browser(sso[0]), "u1", urllib.parse.quote(page, safe=""))
    assert (answer.status, answer.headers.get("refresh")) == (200, f"0; url={page}")


def test_nobody_signs_in_with_anothers_answer(sso):
    base, _ = sso
    mine, theirs = Browser(base), Browser(base)
    back = at_the_provider(begun(theirs), "u2").removeprefix(base)
    begun(mine)
    assert mine.go(back).status == 403, "the state is another browser's"
    assert Browser(base).go(back).status == 403, "a browser that began nothing"
    assert theirs.go(back.replace("code=", "code=x")).status == 403
    changed = Browser(base)
    again = at_the_provider(begun(changed), "u1").removeprefix(base)
    changed.cookies["pushfleet-oidc"] = changed.cookies["pushfleet-oidc"][:-2] + "AA"
    assert changed.go(again).status == 403
    denied = Browser(base)
    state = urllib.parse.parse_qs(urllib.parse.urlsplit(begun(denied)).query)["state"][0]
    assert denied.go(f"/login/oidc/back?error=access_denied&state={state}").status == 403
    found = "pushfleet"
    assert found not in {name for one in (mine, theirs, changed, denied) for name in one.cookies}


WRONG = {
    "another audience": {"aud": "another"},
    "another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1_000_000},
    "another sign-in": {"nonce": "another"},
    "for another client": {"azp": "another"},
    "no subject": {"sub": None},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("how", ["unsigned", "own secret"])
def test_a_token_that_is_not_for_us_is_refused(fleet_settings, issuer, change, how):
    settings = replace(
        fleet_settings,
        oidc_issuer=issuer,
        oidc_client_id=CLIENT,
        oidc_roles=("viewer=*",),
        console_url="http://c",
    )
    provider = Provider(settings)
    claims = {"iss": issuer, "aud": CLIENT, "sub": "u1", "nonce": "n", "iat": 1, "exp": 1 << 40}
    claims |= change
    claims = {name: value for name, value in claims.items() if value is not None}
    token = jwt.encode(claims, *(("", "none") if how == "unsigned" else ("k" * 32, "HS256")))
    with pytest.raises(OidcError):
        provider._claims(token, "n")


class OneKey(BaseHTTPRequestHandler):
    """A provider's description and its key."""

    jwk: ClassVar[dict[str, str]] = {}

    def do_GET(self):
        issuer = f"http://{self.headers['host']}"
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        about = {name: f"{issuer}/{name}" for name in names}
        told = {"keys": [self.jwk]} if self.path == "/jwks_uri" else {"issuer": issuer, **about}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def signer():
    """(issuer, its private key) of a provider that signs what a test wants."""
    key = rsa.generate_private_key(65537, 2048)
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneKey)
    public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    OneKey.jwk = {**public, "kid": "k1", "use": "sig", "alg": "RS256"}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", key
    server.shutdown()
    server.server_close()


#: What the provider signed with its own key, and is not for this sign-in.
SIGNED_WRONG = {
    **WRONG,
    "several audiences, none of them us": {"aud": ["a", "b"]},
    "issuer with a path more": {"iss": "{issuer}/"},
    "not yet valid": {"nbf": 1 << 40},
    "issued in the future": {"iat": 1 << 40},
    "no expiry": {"exp": None},
    "no time of issue": {"iat": None},
    "no audience": {"aud": None},
    "no issuer": {"iss": None},
    "no nonce": {"nonce": None},
    "a nonce that is no text": {"nonce": 7},
    "another, and us as authorised party": {"aud": "another", "azp": CLIENT},
}
SIGNED_RIGHT = {
    "for us": {},
    "for us and another": {"aud": [CLIENT, "another"], "azp": CLIENT},
    "a clock that is a few seconds off": {"exp": "now-5"},
}


def signed_claims(fleet_settings, signer, change, **header):
    issuer, key = signer
    settings = replace(
        fleet_settings,
        oidc_issuer=issuer,
        oidc_client_id=CLIENT,
        oidc_roles=("viewer=*",),
        console_url="http://c",
    )
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": CLIENT,
        "sub": "u1",
        "nonce": "n",
        "iat": now,
        "exp": now + 60,
        **change,
    }
    claims = {
        name: value.format(issuer=issuer) if isinstance(value, str) else value
        for name, value in claims.items()
    }
    claims = {
        name: now - 5 if value == "now-5" else value
        for name, value in claims.items()
        if value is not None
    }
    token = jwt.encode(claims, key, "RS256", headers={"kid": "k1", **header})
    return Provider(settings)._claims(token, "n")


@pytest.mark.parametrize("change", SIGNED_RIGHT.values(), ids=SIGNED_RIGHT)
def test_what_the_provider_signed_for_us_is_taken(fleet_settings, signer, change):
    assert signed_claims(fleet_settings, signer, change)["sub"] == "u1"


@pytest.mark.parametrize("change", SIGNED_WRONG.values(), ids=SIGNED_WRONG)
def test_what_the_provider_signed_for_somebody_else_is_refused(fleet_settings, signer, change):
    with pytest.raises(OidcError):
        signed_claims(fleet_settings, signer, change)


def test_a_key_that_the_provider_does_not_show_is_refused(fleet_settings, signer):
    with pytest.raises(OidcError, match="does not show"):
        signed_claims(fleet_settings, signer, {}, kid="k2")
    with pytest.raises(OidcError):
        signed_claims(fleet_settings, (signer[0], rsa.generate_private_key(65537, 2048)), {})


def test_a_provider_that_is_away_leaves_the_passwords(sso, monkeypatch):
    base, _ = sso
    monkeypatch.setattr("workers.console.oidc.Provider._described", _away)
    answer = Browser(base).go("/login/oidc")
    assert answer.status == 503
    assert 'name="password"' in answer.text


def _away(_self):
    raise OidcError("the provider does not answer")


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ({"ops"}, "operator"),
        ({"ops", "root"}, "admin"),
        ({"x"}, "viewer"),
        (set(), "viewer"),
        ({"*"}, "viewer"),
    ],
)
def test_the_strongest_role_counts(groups, role):
    assert role_of(groups, ("operator=ops", "admin=root", "viewer=*")) == role
    assert role_of(groups - {"ops", "root"}, ("operator=ops", "admin=root")) is None
    assert set(ROLES) == {"viewer", "operator", "admin"}
