"""`python -m framegrid_serve` with Ray Serve's own autoscaling policy and its defaults: the peer of ours."""

from __future__ import annotations

import sys
from typing import Any

from framegrid_serve import node
from framegrid_serve.__main__ import main
from framegrid_serve.settings import NodeSettings
from framegrid_serve.spec import ServingConfig

_ours = node._deploy_config


def _with_rays_policy(settings: NodeSettings, config: ServingConfig) -> dict[str, Any]:
    values = _ours(settings, config)
    (deployment,) = values["applications"][0]["deployments"]
    limits = {key: deployment["autoscaling_config"][key] for key in ("min_replicas", "max_replicas")}
    deployment["autoscaling_config"] = limits  # everything else as Ray has it
    return values


if __name__ == "__main__":
    node._deploy_config = _with_rays_policy
    sys.exit(main())
