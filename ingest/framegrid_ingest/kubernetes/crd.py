"""`python -m framegrid_ingest.kubernetes.crd`: prints the CustomResourceDefinition of Camera.

Made from `CameraConfig`, so that cameras.yaml, the REST API and `kubectl apply` accept the same; a test
compares the file in the chart with this. The API server checks types, bounds, patterns and the rules in CEL;
what it cannot check (a polygon's area, a time zone's name, a Secret's key) ends up in the status.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml
from pydantic import create_model

from framegrid_ingest.config import CameraConfig
from framegrid_ingest.kubernetes.resource import FAST_MESSAGE, GROUP, KIND, PLURAL, VERSION
from framegrid_ingest.schema_errors import NAME_PATTERN, WORD_PATTERN

# The name is metadata.name; a recording's start makes sense for one that is read as fast as it goes.
NOT_IN_SPEC = frozenset({"name", "start_s"})

DESCRIPTIONS = {
    "url": "Address: rtsp://, rtsps://, http://, https://, file:// or webcam:N. ${NAME} is the key NAME of "
    "secretRef's Secret; passwords belong there.",
    "kind": "What the address is; auto asks the server. Default auto.",
    "fps": "Frames sampled per second; 0.2 is one per 5 s. Default 10.",
    "model": "A model that serve has. Default street-sim.",
    "classes": "Counted class -> model classes (of) and least score (min_score, default 0.4). "
    "Default person and vehicle.",
    "zones": "Polygons in which objects are counted, relative to the picture: x to the right, y down, 0..1.",
    "lines": "Lines whose crossings are counted. Walking from start to end, in is from the left hand to the "
    "right.",
    "site": "Free text that groups cameras.",
    "timezone": "IANA name that decides what a local day is. Default UTC.",
    "paused": "A paused camera is not opened and expects no frames. Default false.",
    "loop": "Files: begin again at the end. Default true.",
    "pace": "Files: native only.",
    "jpeg_quality": "Quality of frames that must be scaled. Default 90.",
    "decode": "Which frames are decoded; auto decodes keyframes only where they come often enough. "
    "Default auto.",
    "anchor": "The point of a box that is in a zone and crosses a line: bottom (feet) or center. "
    "Default bottom.",
    "store_detections": "Store every box, not only counts. Default false.",
    "stall_s": "Seconds without a picture until the camera is opened again. Default 10.",
    "tls_verify": "False accepts any certificate. Default true.",
}

_PASSWORD = "^[^:/?#]+://[^/?#@]*:[^/?#]*@"
_PASSWORD_BY_NAME = "^[^:/?#]+://[^/?#:@]*:[$][{][A-Za-z_][A-Za-z0-9_]*[}]@"

_SPEC_RULES = [
    {
        "rule": "self.url.matches('(?i)^((rtsps?|https?)://[^/]|file:///)') || "
        "self.url.matches('^(webcam:[0-9]+$|/)')",
        "message": "expected rtsp://, rtsps://, http://, https://, file:///, webcam:N or an absolute path",
        "fieldPath": ".url",
    },
    {
        "rule": f"!self.url.matches('{_PASSWORD}') || self.url.matches('{_PASSWORD_BY_NAME}')",
        "message": "expected no password in the address, got one; write ${NAME} in its place and put it "
        "under the key NAME of the Secret that secretRef names",
        "fieldPath": ".url",
    },
    {
        "rule": "!self.url.contains('${') || has(self.secretRef)",
        "message": "expected secretRef with the name of a Secret, since the address holds ${NAME}; got none",
        "fieldPath": ".url",
    },
    *(
        {
            "rule": f"!self.url.matches('{scheme}') || !has(self.kind) || self.kind in {['auto', *kinds]}",
            "messageExpression": f"'expected kind auto, {', '.join(kinds)} for this url, got ' + self.kind",
            "fieldPath": ".kind",
        }
        for scheme, kinds in (
            ("(?i)^rtsps?://", ["rtsp"]),
            ("(?i)^https?://", ["file", "hls", "jpeg", "mjpeg"]),
            ("(?i)^(file://|/)", ["file"]),
            ("^webcam:", ["webcam"]),
        )
    ),
    {
        "rule": "!has(self.pace) || self.pace != 'fast'",
        "message": FAST_MESSAGE,
        "fieldPath": ".pace",
    },
]
_NAME_RULE = {
    "rule": f"self.metadata.name.matches('{NAME_PATTERN}') && size(self.metadata.name) <= 63",
    "message": "expected a name of at most 63 small letters, digits and '-' (not at the ends)",
}
_LINE_RULE = {
    "rule": "self.start != self.end",
    "message": "expected start and end to differ, got the same point twice; move one",
}
_CLASSES_RULE = {
    "rule": f"self.all(name, size(name) >= 1 && size(name) <= 64 && name.matches('{WORD_PATTERN}'))",
    "message": "expected names of at most 64 letters, digits, spaces, '_', '.' and '-', the first a letter "
    "or digit",
}

_STATUS = {
    "state": {
        "type": "string",
        "description": "connecting, running, stalled, failed, paused, ended, or invalid: see message.",
    },
    "sourceKind": {"type": "string", "description": "What the camera turned out to be."},
    "message": {"type": "string", "description": "What is wrong and what to do; never with credentials."},
    "owner": {"type": "string", "description": "The ingest pod that reads this camera."},
    "observedGeneration": {
        "type": "integer",
        "format": "int64",
        "description": "The generation of the spec that this status is about.",
    },
    "fps": {"type": "number", "description": "Frames analysed per second, over the last seconds."},
    "lastFrameTime": {
        "type": "string",
        "format": "date-time",
        "nullable": True,
        "description": "Capture time of the last frame that was counted; refreshed every half minute.",
    },
}
_COLUMNS = [
    ("Source-Kind", "string", ".status.sourceKind"),
    ("State", "string", ".status.state"),
    ("FPS", "number", ".status.fps"),
    ("Last-Frame", "date", ".status.lastFrameTime"),
    ("Owner", "string", ".status.owner"),
    ("Message", "string", ".status.message"),
]


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": "camera",
                "shortNames": ["cam"],
                "categories": ["framegrid"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path} for name, kind, path in _COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _schema()},
                }
            ],
        },
    }


def _schema() -> dict[str, Any]:
    return {
        "description": "A camera: read, sampled, analysed and counted by one ingest pod of its namespace.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": spec_schema(),
            "status": {"type": "object", "properties": _STATUS},
        },
        "x-kubernetes-validations": [_NAME_RULE],
    }


def spec_schema() -> dict[str, Any]:
    """`spec` as a structural schema."""
    fields: dict[str, Any] = {
        name: (str if name == "url" else info.annotation, info)
        for name, info in CameraConfig.model_fields.items()
        if name not in NOT_IN_SPEC
    }
    document = create_model("Spec", **fields).model_json_schema()
    spec = _structural(document, document.get("$defs", {}))
    properties = spec["properties"]
    for name, schema in properties.items():
        schema["description"] = DESCRIPTIONS[name]
    properties["url"]["maxLength"] = 2048
    properties["url"]["minLength"] = 1
    properties["timezone"]["maxLength"] = 64
    for name in ("zones", "lines"):  # names are unique, and `kubectl apply --server-side` merges by them
        properties[name] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    properties["lines"]["items"]["x-kubernetes-validations"] = [_LINE_RULE]
    properties["classes"]["x-kubernetes-validations"] = [_CLASSES_RULE]
    properties["secretRef"] = {
        "type": "object",
        "description": "The Secret in this namespace whose keys stand for ${NAME} in url.",
        "required": ["name"],
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 253}},
    }
    spec["x-kubernetes-validations"] = _SPEC_RULES
    return spec


def _structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Pydantic's JSON schema in the form that Kubernetes takes. Defaults stay in ingest, so that they can
    change without a change of every stored camera."""
    if "$ref" in schema:
        return _structural(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    kept = ("type", "enum", "required", "pattern", "format", "minimum", "maximum")
    sizes = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
    found = {key: schema[key] for key in (*kept, *sizes) if key in schema}
    for bound, name in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in schema:
            found |= {name: schema[bound], bound: True}
    if "properties" in schema:
        found["properties"] = {
            key: _structural(value, definitions) for key, value in schema["properties"].items()
        }
    items = schema.get("items") or next(iter(schema.get("prefixItems", ())), None)
    if items:
        found["items"] = _structural(items, definitions)
    # A mapping with names of its own: {type: object, additionalProperties | patternProperties: {…}}
    entries = schema.get("additionalProperties") or next(
        iter(schema.get("patternProperties", {}).values()), None
    )
    if isinstance(entries, dict):
        found["additionalProperties"] = _structural(entries, definitions)
    if "type" not in found:
        raise ValueError(f"expected a schema with a type, got {schema}; teach crd.py its form")
    return found


def text() -> str:
    """The file in the chart."""
    head = "# Made by: python -m framegrid_ingest.kubernetes.crd\n"
    body: str = yaml.safe_dump(definition(), sort_keys=False, width=110)
    return head + body


if __name__ == "__main__":
    sys.stdout.write(text())
