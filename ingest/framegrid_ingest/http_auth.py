"""HTTP Basic (RFC 7617) and Digest (RFC 7616) authentication, which cameras ask for."""

from __future__ import annotations

import base64
import hashlib
import os
import re

_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES = {"md5": hashlib.md5, "sha-256": hashlib.sha256, "sha256": hashlib.sha256}


def authorization(
    challenges: str, method: str, target: str, user: str, password: str, *, cnonce: str | None = None
) -> str | None:
    """Value of the Authorization header that answers `challenges`, or None when none is understood.

    `challenges` are the WWW-Authenticate headers, one a line. Digest is preferred: it does not show the
    password. `cnonce` is for tests; else it is random.
    """
    for line in challenges.split("\n"):
        scheme, _, rest = line.strip().partition(" ")
        if scheme.lower() == "digest":
            answer = _digest(_parameters(rest), method, target, user=user, password=password, cnonce=cnonce)
            if answer:
                return answer
    if any(line.strip().lower().startswith("basic") for line in challenges.split("\n")):
        return basic(user, password)
    return None


def basic(user: str, password: str) -> str:
    """The Basic value for a user and password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _parameters(text: str) -> dict[str, str]:
    return {
        match.group(1).lower(): match.group(2) if match.group(2) is not None else match.group(3)
        for match in _PARAMETER.finditer(text)
    }


def _digest(
    given: dict[str, str], method: str, target: str, *, user: str, password: str, cnonce: str | None
) -> str | None:
    algorithm = given.get("algorithm", "MD5")
    make_hash = _HASHES.get(algorithm.lower().removesuffix("-sess"))
    if make_hash is None or "nonce" not in given:
        return None

    def digest(*parts: str) -> str:
        return make_hash(":".join(parts).encode()).hexdigest()

    realm, nonce = given.get("realm", ""), given["nonce"]
    cnonce = cnonce or os.urandom(8).hex()
    secret = digest(user, realm, password)
    if algorithm.lower().endswith("-sess"):
        secret = digest(secret, nonce, cnonce)
    request = digest(method, target)
    fields = [f'username="{user}"', f'realm="{realm}"', f'nonce="{nonce}"', f'uri="{target}"']
    if "auth" in re.split(r"[\s,]+", given.get("qop", "")):
        response = digest(secret, nonce, "00000001", cnonce, "auth", request)
        fields += ["qop=auth", "nc=00000001", f'cnonce="{cnonce}"']
    elif "qop" in given:
        return None
    else:
        response = digest(secret, nonce, request)
    fields += [f'response="{response}"', f"algorithm={algorithm}"]
    if "opaque" in given:
        fields.append(f'opaque="{given["opaque"]}"')
    return "Digest " + ", ".join(fields)
