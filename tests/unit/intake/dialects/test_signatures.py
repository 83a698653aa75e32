"""The callback signatures: the vectors of the clouds' pages and ours, and what each refuses."""

from typing import Any

import pytest

from workers.intake.dialects import signatures

TENCENT = "fdad8b08513d7f9b31a32b72f25789deba9a871f25debbd55d98e156961c6f1c"
ZEGO = {
    "official": ("secret", "1470820198", "123412", "5bd59fd62953a8059fb7eaba95720f66d19e4517"),
    "ours": (
        "demo-callback-secret",
        "1763787600",
        "350171",
        "b829456a31e69aa25ed23d818596952b2f0df28c",
    ),
}
NIM_BODY = '{"eventType":"1","convType":"PERSON","body":"你好"}'.encode()
NIM_MD5, NIM_TIME, NIM_SUM = (
    "f07643acc15445f8976c8a7c8dbf4f10",
    "1440570500855",
    "44bf1fea30f282818a1fab728fc48a8c1fcedd48",
)


def test_tencents_vector():
    assert signatures.tencent_sign("demo-token", "1763787650") == TENCENT


CLOCKS = {
    "same second": (0, True),
    "a minute late": (60, True),
    "a minute early": (-60, True),
    "61 s late": (61, False),
    "61 s early": (-61, False),
}


@pytest.mark.parametrize(("off_s", "good"), CLOCKS.values(), ids=CLOCKS)
def test_tencents_time_may_be_a_minute_off(off_s, good):
    found = signatures.tencent_signed("demo-token", "1763787650", TENCENT, 1763787650 + off_s)
    assert found is good


@pytest.mark.parametrize(
    ("token", "time", "sign"),
    [
        ("other", "1763787650", TENCENT),
        ("demo-token", "1763787651", TENCENT),
        ("demo-token", "1763787650", TENCENT.upper()),
        ("demo-token", "1763787650", ""),
        ("demo-token", "1763787650", "签名\ud83c"),
        ("demo-token", "noon", TENCENT),
        ("demo-token", "²", TENCENT),
        ("demo-token", "9" * 5000, TENCENT),
    ],
)
def test_tencents_signature_refuses_everything_else(token, time, sign):
    assert signatures.tencent_signed(token, time, sign, 1763787650) is False


@pytest.mark.parametrize(("secret", "timestamp", "nonce", "signature"), ZEGO.values(), ids=ZEGO)
def test_zegos_vectors(secret, timestamp, nonce, signature):
    assert signatures.zego_signature(secret, timestamp, nonce) == signature
    assert signatures.zego_signed(secret, timestamp, nonce, signature)
    assert not signatures.zego_signed(secret + "x", timestamp, nonce, signature)
    assert not signatures.zego_signed(secret, timestamp, nonce, signature[:-1])


def test_nims_vector():
    assert signatures.nim_md5(NIM_BODY) == NIM_MD5
    assert signatures.nim_checksum("demo-app-secret", NIM_MD5, NIM_TIME) == NIM_SUM
    assert signatures.nim_signed("demo-app-secret", NIM_BODY, NIM_MD5, NIM_TIME, NIM_SUM)


def test_nims_checksum_covers_the_body_its_md5_and_the_time():
    good: tuple[Any, ...] = ("demo-app-secret", NIM_BODY, NIM_MD5, NIM_TIME, NIM_SUM)
    for n, wrong in enumerate(
        ("other", NIM_BODY + b" ", NIM_MD5[::-1], NIM_TIME + "0", NIM_SUM[::-1])
    ):
        assert not signatures.nim_signed(*(*good[:n], wrong, *good[n + 1 :]))
