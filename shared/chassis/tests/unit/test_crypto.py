"""What is sealed opens at its place alone; who calls is who signed."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from chassis import crypto
from chassis.crypto import Caller, Keyring, Minter, SealBroken, Verifier
from chassis.kernel import errors

OLD, NEW = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
RING = Keyring(f"k1:{OLD}")
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT, st.lists(TEXT, max_size=3))
def test_what_is_sealed_opens_again(plain: str, identity: list[str]) -> None:
    assert RING.open(RING.seal(plain, *identity), *identity) == plain


@given(st.lists(TEXT, max_size=3), st.lists(TEXT, max_size=3))
def test_only_at_its_own_place(identity: list[str], other: list[str]) -> None:
    sealed = RING.seal("secret", *identity)
    if identity != other:
        with pytest.raises(SealBroken):
            RING.open(sealed, *other)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_changed_bit_breaks_the_seal(place: int, bit: int) -> None:
    prefix, version, name, text = RING.seal("secret", "row").split(":")
    raw = bytearray(base64.urlsafe_b64decode(text))
    raw[place % len(raw)] ^= 1 << bit
    changed = base64.urlsafe_b64encode(bytes(raw)).decode()
    with pytest.raises(SealBroken):
        RING.open(f"{prefix}:{version}:{name}:{changed}", "row")


@given(st.text(max_size=60))
def test_any_other_text_is_not_sealed(text: str) -> None:
    with pytest.raises(SealBroken):
        RING.open(text, "row")


@pytest.mark.parametrize("text", ["enc:v1:k1:", "enc:v1:k1:AAAA", "enc:v1:k9:AAAA", "enc:v1:k1:é"])
def test_almost_sealed_is_not_sealed(text: str) -> None:
    with pytest.raises(SealBroken):
        RING.open(text)


def test_another_version_of_the_form_is_not_opened() -> None:
    sealed = RING.seal("secret").replace("enc:v1:", "enc:v2:")
    with pytest.raises(SealBroken):
        RING.open(sealed)


def test_no_two_seals_are_alike_and_none_shows_the_text() -> None:
    sealed = {RING.seal("shpat_0123456789", "row") for _ in range(50)}
    assert len(sealed) == 50
    assert not any("shpat" in one for one in sealed)


def test_the_first_key_seals_and_all_of_them_open() -> None:
    before = RING.seal("secret", "row")
    turned = Keyring(f"k2:{NEW}, k1:{OLD}")
    assert turned.open(before, "row") == "secret"
    after = turned.seal("secret", "row")
    assert after.startswith("enc:v1:k2:")
    with pytest.raises(SealBroken):
        RING.open(after, "row")


@pytest.mark.parametrize(
    "spec",
    ["", " , ", "k1", "k1:", "k1:short", f"k1:{OLD[:-4]}", f"k1:{OLD}x", f":{OLD}", "k1:é",
     f"k1:{OLD},k1:{NEW}"],
)  # fmt: skip
def test_a_wrong_ring_is_refused_and_not_told_back(spec: str) -> None:
    with pytest.raises(ValueError) as caught:
        Keyring(spec)
    assert OLD not in str(caught.value)


PRIVATE, PUBLIC = crypto.new_service_key()


def public(pem: str) -> Ed25519PublicKey:
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    return key


@pytest.fixture
def minter() -> Minter:
    return Minter(service="gateway", private_key_pem=PRIVATE)


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(service="queue-service", public_keys={"gateway": public(PUBLIC)})


def test_a_service_speaks_for_itself(minter: Minter, verifier: Verifier) -> None:
    caller = verifier.verify(minter.mint("queue-service"))
    assert caller == Caller(service="gateway", scopes=frozenset({"service"}))


def test_or_for_a_key(minter: Minter, verifier: Verifier) -> None:
    scopes = frozenset({"jobs:write", "jobs:read"})
    token = minter.mint("queue-service", key_id="key1", shop="a.myshopify.com", scopes=scopes)
    assert verifier.verify(token) == Caller("gateway", "key1", "a.myshopify.com", scopes)
    assert verifier.verify(token).has("jobs:read")
    assert not verifier.verify(token).has("admin")


def test_no_claims_are_mixed_up_by_the_cache(minter: Minter, verifier: Verifier) -> None:
    for shop in ("a", "b", None, "a"):
        for key in ("1", "2", "1"):
            caller = verifier.verify(minter.mint("queue-service", key_id=key, shop=shop))
            assert (caller.key_id, caller.shop) == (key, shop)


def test_equal_claims_share_a_token_for_half_its_life(
    minter: Minter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    first = minter.mint("queue-service")
    monkeypatch.setattr(time, "time", lambda: now + crypto.TOKEN_RENEW_S - 1)
    assert minter.mint("queue-service") == first
    monkeypatch.setattr(time, "time", lambda: now + crypto.TOKEN_RENEW_S + 1)
    assert minter.mint("queue-service") != first


def forged(key: Any = PRIVATE, algorithm: str = "EdDSA", **claims: Any) -> str:
    now = int(time.time())
    said = {"iss": "gateway", "aud": "queue-service", "sub": "gateway", "exp": now + 60,
            "scope": "service"}  # fmt: skip
    kept = {name: value for name, value in {**said, **claims}.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm)


def unsigned() -> str:
    head, rest = forged().split(".")[0:2]
    claims = json.dumps({"alg": "none"}).encode()
    return f"{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{rest}.{head[:0]}"


OTHER_TOKENS = {
    "empty": "",
    "nonsense": "x.y.z",
    "for another": forged(aud="session-service"),
    "for nobody": forged(aud=None),
    "of the past": forged(exp=int(time.time()) - crypto.LEEWAY_S - 5),
    "for ever": forged(exp=None),
    "about nobody": forged(sub=None),
    "of a stranger": forged(iss="stranger"),
    "of nobody": forged(iss=None),
    "by another key": forged(key=crypto.new_service_key()[0]),
    "by a secret": forged(key="a secret of thirty-two bytes or more", algorithm="HS256"),
    "unsigned": unsigned(),
    "changed": forged()[:-4] + "AAAA",
}


@pytest.mark.parametrize("token", OTHER_TOKENS.values(), ids=OTHER_TOKENS.keys())
def test_every_other_token_is_refused(verifier: Verifier, token: str) -> None:
    for _ in range(2):
        with pytest.raises(errors.Unauthenticated):
            verifier.verify(token)


def test_a_token_seen_before_ends_in_time_all_the_same(
    minter: Minter, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = minter.mint("queue-service")
    verifier.verify(token)
    later = time.time() + crypto.TOKEN_LIFE_S + crypto.LEEWAY_S + 5
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(verifier, "_decode", lambda _token: pytest.fail("asked again"))
    with pytest.raises(pytest.fail.Exception):
        verifier.verify(token)


def test_keys_are_read_from_a_folder_by_the_name_of_the_service(
    tmp_path: Path, minter: Minter
) -> None:
    (tmp_path / "gateway.pub").write_text(PUBLIC)
    (tmp_path / "README").write_text("not a key")
    verifier = Verifier.from_directory(service="queue-service", directory=tmp_path)
    assert verifier.verify(minter.mint("queue-service")).service == "gateway"
