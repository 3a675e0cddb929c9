"""Camera addresses that hide their secrets, and what kind of camera an address names.

`CameraUrl` is the only thing that holds credentials. `str()`, `repr()`, formatting, logging and pickling show
the sanitised text; `reveal()` is for the code that opens the connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HIDDEN = "***"
# user:${PASSWORD}, ${USER}:${PASSWORD}, or a user alone.
_ONLY_VARIABLES = re.compile(r"(?:[^:/?#@$]*|\$\{\w+\})(?::\$\{\w+\})?")
# Query values shown in messages; every other one may be a token, so it is hidden.
_PUBLIC_QUERY_KEYS = frozenset(
    {
        "channel",
        "subtype",
        "stream",
        "profile",
        "camera",
        "cam",
        "id",
        "resolution",
        "fps",
        "width",
        "height",
        "w",
        "h",
    }
)

_SCHEME_KINDS = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "webcam": "webcam",
    "file": "file",
}
SCHEMES = ("rtsp://", "rtsps://", "http://", "https://", "file://", "webcam:0", "a file's path")


@dataclass(frozen=True, slots=True, repr=False)
class CameraUrl:
    """An address. `_secrets` are the texts filled in from the environment; they are hidden everywhere."""

    _value: str
    _secrets: tuple[str, ...] = field(default=())

    def reveal(self) -> str:
        """The address with its credentials. Never log it, never put it in a message."""
        return self._value

    def hide(self, text: str) -> str:
        """`text` (a library's message, say) without this address's credentials."""
        text = text.replace(self._value, str(self))
        for secret in self._hidden_texts():
            text = text.replace(secret, _HIDDEN)
        return text

    @property
    def kind(self) -> str:
        """`rtsp`, `hls`, `mjpeg`, `http` (ask the server which), `file` or `webcam`, by the address alone."""
        return kind_of(self._value)

    def _hidden_texts(self) -> list[str]:
        texts = {secret for secret in self._secrets if len(secret) >= 3}
        userinfo, _, host = urlsplit_safely(self._value).netloc.rpartition("@")
        if host and ":" in userinfo:
            texts.add(userinfo)
            texts.add(userinfo.partition(":")[2])
        return sorted((text for text in texts if text), key=len, reverse=True)

    def __str__(self) -> str:
        return sanitise(self._value, self._secrets)

    def __repr__(self) -> str:
        return f"CameraUrl({str(self)!r})"

    def __reduce__(self) -> tuple[type[CameraUrl], tuple[str, tuple[str, ...]]]:
        raise TypeError("a CameraUrl holds credentials and is not pickled; pass reveal() where it is needed")


def urlsplit_safely(value: str) -> SplitResult:
    """`urlsplit` that answers empty parts where it would raise (its messages quote the netloc)."""
    try:
        return urlsplit(value)
    except ValueError:
        return SplitResult("", "", "", "", "")


def sanitise(value: str, secrets: tuple[str, ...] = ()) -> str:
    """`value` without user, password, tokens in the query, fragment and any of `secrets`."""
    if "://" in value:
        scheme, _, rest = value.partition("://")
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        # An unescaped "/" or "#" in a password ends the authority early: hide up to the last "@" of the text.
        tail = rest[len(authority) :]
        if "@" in tail and "@" not in authority and ":" in authority:
            return f"{scheme}://{_HIDDEN}@{_mask_secrets(tail.rpartition('@')[2], secrets)}"
        host = authority.rpartition("@")[2]
        shown = f"{_HIDDEN}@{host}" if "@" in authority else host
        tail, _, _fragment = tail.partition("#")
        path, mark, query = tail.partition("?")
        value = f"{scheme}://{shown}{path}{mark}{_sanitise_query(query)}"
    return _mask_secrets(value, secrets)


def shown_template(template: str) -> str:
    """An address as it is written, without what is secret in it; ${NAME} is none."""
    userinfo, mark, rest = template.partition("://")[2].partition("@")
    if mark and "@" not in rest and _ONLY_VARIABLES.fullmatch(userinfo):
        shown = sanitise(template.replace(f"{userinfo}@", "", 1))
        scheme, _, rest = shown.partition("://")
        return f"{scheme}://{userinfo}@{rest}"
    return sanitise(template)


def _sanitise_query(query: str) -> str:
    shown = []
    for pair in query.split("&") if query else []:
        key, mark, value = pair.partition("=")
        shown.append(
            pair if not mark or key.lower() in _PUBLIC_QUERY_KEYS else f"{key}={_HIDDEN if value else ''}"
        )
    return "&".join(shown)


def _mask_secrets(text: str, secrets: tuple[str, ...]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if secret:
            text = text.replace(secret, _HIDDEN)
    return text


def kind_of(value: str) -> str:
    """What an address names, or "" when its scheme is none of SCHEMES."""
    scheme, mark, _ = value.partition("://")
    if not mark:
        if value.startswith("webcam:"):
            return "webcam"
        return "file"
    kind = _SCHEME_KINDS.get(scheme.lower(), "")
    if kind == "http":
        path = urlsplit_safely(value).path.lower()
        if path.endswith((".m3u8", ".m3u")):
            return "hls"
        if path.endswith((".mjpg", ".mjpeg")):
            return "mjpeg"
    return kind


def missing_variable(name: str, state: str) -> str:
    """What to say of a ${NAME} that the environment lacks; `state` is "is not set" or "is empty"."""
    return f"the environment variable {name} {state}; set it for the ingest process"


def fill_in(
    template: str,
    values: Mapping[str, str],
    missing: Callable[[str, str], str] = missing_variable,
) -> tuple[str, tuple[str, ...]]:
    """`template` with each ${NAME} replaced, and the texts that were put in.

    `values` is the environment or a Secret; `missing` words what it lacks. A value that lands in the user or
    password is percent-encoded, so any character may be in it. `$${` stands for a plain `${`. Raises
    ValueError that names the variable (never a value).
    """
    secrets: list[str] = []
    rest = template.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0] if rest else ""
    userinfo_end = len(template) - len(rest) + authority.rfind("@") if "@" in authority else -1

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if template[: match.start()].endswith("$"):
            return match.group(0)
        if not _VARIABLE_NAME.match(name):
            raise ValueError(f"expected ${{NAME}} with letters, digits and _, got ${{{name}}}")
        value = values.get(name, "")
        if not value:
            raise ValueError(missing(name, "is empty" if name in values else "is not set"))
        secrets.append(value)
        if match.start() < userinfo_end:
            value = quote(value, safe="")
            secrets.append(value)
        return value

    filled = _VARIABLE.sub(value_of, template).replace("$${", "${")
    return filled, tuple(dict.fromkeys(secrets))


def absolute_path(value: str, base_dir: Path) -> str:
    """A file's path (or file:// address) made absolute, relative paths taken from `base_dir`."""
    path = Path(value.removeprefix("file://")).expanduser()
    return str(path if path.is_absolute() else (base_dir / path).resolve())
