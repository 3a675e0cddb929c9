"""What kind of file an upload is, by its first bytes, before FFmpeg sees it.

FFmpeg opens much that is no recording: play lists, for one, that name files and addresses for it to read.
Only containers that hold their own pictures pass.
"""

from __future__ import annotations

HEAD_BYTES = 400
_TS_PACKET, _TS_SYNC = 188, 0x47


def container_of(head: bytes) -> str:
    """mp4, mkv, avi, ts or ps; empty for anything else. `head`: the first HEAD_BYTES, or all there is."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mp4"  # and QuickTime
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "mkv"  # and WebM
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"\0\0\1\xba"):
        return "ps"
    syncs = head[::_TS_PACKET][:3]
    if len(head) > 2 * _TS_PACKET and all(byte == _TS_SYNC for byte in syncs):
        return "ts"
    return ""
