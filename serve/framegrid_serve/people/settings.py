"""What the API for people may use, and whom it serves."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator

_ORIGIN = re.compile(r"^(\*|https?://[A-Za-z0-9.:\[\]-]+)$")
# A host, `*.` for all below it, with a port where it is not the scheme's own.
_HOST = re.compile(r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$")


class PeopleSettings(BaseModel):
    """The key `people` of serve's config. Everything is per replica."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True  # False: the wire route alone
    # A 50-megapixel photo of a phone is 12 MB.
    max_image_bytes: int = Field(default=20 * 1024 * 1024, ge=1024, le=200 * 1024 * 1024)
    # Read from the header before anything is decoded. 50 megapixels are 150 MB as RGB.
    max_pixels: int = Field(default=50_000_000, ge=4096, le=200_000_000)
    max_images: int = Field(default=16, ge=1, le=64)  # in one request
    # Pictures of people in a replica at a time, so that they cannot crowd out cameras; more is answered 429.
    max_waiting_images: int = Field(default=32, ge=1, le=1000)
    # For sending the body: whoever trickles bytes holds a place that others could use.
    upload_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    # Waiting for an engine; a request may ask for less.
    detect_timeout_s: float = Field(default=10.0, gt=0, le=60)
    # Other sites whose pages may call this API from a browser; `*` for any. None: this page alone.
    cors_origins: tuple[str, ...] = ()
    # Hosts that pictures may be fetched from by {"url": …}; none: fetching is off.
    url_hosts: tuple[str, ...] = ()
    url_schemes: tuple[str, ...] = ("https",)
    # True: the hosts above may have private addresses (a camera's snapshot in the same network).
    url_private: bool = False
    url_timeout_s: float = Field(default=10.0, gt=0, le=60)
    # Where the video service answers (python -m framegrid_ingest.videos); empty: videos are not analysed.
    videos_url: str = Field(default="", pattern=r"^(https?://[^/?#@\s]+)?$")
    # The video service has its own, smaller or larger; this one is checked before a byte is passed on.
    max_video_bytes: int = Field(default=500 * 1024 * 1024, ge=1024, le=100 * 1024**3)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.match(origin):
                raise ValueError(f"expected * or scheme://host without a path, got {origin!r}")
        return value

    @field_validator("url_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.match(host):
                raise ValueError(f"expected a host such as media.example.org or *.example.org, got {host!r}")
        return value

    @field_validator("url_schemes")
    @classmethod
    def _schemes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or set(value) - {"http", "https"}:
            raise ValueError(f"expected https, http or both, got {', '.join(value) or 'none'}")
        return value
