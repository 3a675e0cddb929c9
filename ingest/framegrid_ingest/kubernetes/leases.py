"""A member's Lease as a Kubernetes object: what `membership` needs to know of it, and back. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from framegrid_ingest.kubernetes.cluster import LEASES, MEMBER_LABEL
from framegrid_ingest.kubernetes.membership import MemberLease, Step
from framegrid_ingest.kubernetes.rendezvous import Member
from framegrid_ingest.kubernetes.resource import GROUP

_IS_MEMBER = f"{GROUP}/is-member"
_SEEN = f"{GROUP}/seen"
_RECORDS_UNTIL = f"{GROUP}/records-until"
_START_AFTER = f"{GROUP}/start-after"


class Written(NamedTuple):
    """My Lease as it was last stored; needed to write it again."""

    uid: str
    version: str
    acquired: str


def member_lease(lease: Mapping[str, Any]) -> MemberLease:
    """What a Lease says. What is missing or unreadable reads as 0."""
    metadata, spec = lease["metadata"], lease.get("spec") or {}
    notes = metadata.get("annotations") or {}
    return MemberLease(
        str(metadata["name"]),
        str(spec.get("holderIdentity") or ""),
        int(metadata["resourceVersion"]),
        max(1.0, float(spec.get("leaseDurationSeconds") or 1)),
        notes.get(_IS_MEMBER) == "true",
        int(_number(notes.get(_SEEN))),
        _number(notes.get(_RECORDS_UNTIL)),
        _number(notes.get(_START_AFTER)),
    )


def lease_object(
    me: Member,
    step: Step,
    *,
    lease_s: float,
    records_until_s: float,
    unix_s: float,
    before: Written | None,
    owners: Sequence[Mapping[str, Any]] = (),
    is_ended: bool = False,
) -> dict[str, Any]:
    """My Lease, to be created (`before` None) or replaced."""
    metadata: dict[str, Any] = {
        "name": me.name,
        "labels": {MEMBER_LABEL: "ingest"},
        "annotations": {
            _IS_MEMBER: "true" if step.is_member else "false",
            _SEEN: str(step.seen),
            _RECORDS_UNTIL: _text(records_until_s),
            _START_AFTER: _text(step.start_after_s),
        },
    }
    if owners:
        metadata["ownerReferences"] = [dict(owner) for owner in owners]
    if before is not None:  # with the uid, a Lease that was deleted is not made again
        metadata |= {"uid": before.uid, "resourceVersion": before.version}
    now = _micro_time(unix_s)
    return {
        "apiVersion": f"{LEASES.group}/{LEASES.version}",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": "" if is_ended else me.pod,
            "leaseDurationSeconds": round(lease_s),
            "acquireTime": before.acquired if before else now,
            "renewTime": now,
        },
    }


def ended(lease: Mapping[str, Any]) -> dict[str, Any]:
    """Another's Lease with its holder cleared; all else stays, its promise above all."""
    return {**lease, "spec": {**lease["spec"], "holderIdentity": ""}}


def written(lease: Mapping[str, Any]) -> Written:
    """From the object as stored."""
    metadata = lease["metadata"]
    return Written(
        str(metadata["uid"]), str(metadata["resourceVersion"]), str(lease["spec"].get("acquireTime") or "")
    )


def _number(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _text(number: float) -> str:
    return f"{number:.6f}" if math.isfinite(number) else "0"


def _micro_time(unix_s: float) -> str:
    at = datetime.fromtimestamp(unix_s, timezone.utc)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
