"""A real single-node Kubernetes on this machine, without Docker or a registry. README.md tells the rest."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import images
import lifecycle
import node
import settings as s
import tools


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("tools", help="install Debian packages, build Go tools; skips what is there")
    verbs.add_parser("up", help="bring the cluster up (idempotent); prints the kubeconfig's path")
    verbs.add_parser("down", help="end it and forget its objects and volumes; images and tools stay")
    verbs.add_parser("status", help="what runs; exit 1 unless all of it does")
    logs = verbs.add_parser("logs", help="the last lines of each component's log, or of one")
    logs.add_argument("component", nargs="?")
    logs.add_argument("-n", "--lines", default="20")
    build = verbs.add_parser("build", help="build a Dockerfile with buildah, load it if the cluster is up")
    build.add_argument("tag")
    build.add_argument("context", type=Path)
    build.add_argument("-f", "--file", type=Path, help="Dockerfile (default CONTEXT/Dockerfile)")
    build.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    load = verbs.add_parser("load", help="load docker or OCI archives, or tags built here")
    load.add_argument("sources", nargs="+", metavar="TAR_OR_TAG")
    tag = verbs.add_parser("tag", help="give an image that is loaded a second name")
    tag.add_argument("source")
    tag.add_argument("tag")
    operator = verbs.add_parser(
        "operator", help="apply CRDs, run a static operator binary as a pod with all rights"
    )
    operator.add_argument("binary", type=Path)
    operator.add_argument("crds", type=Path, metavar="CRD_DIR")
    operator.add_argument("args", nargs="*", help="its arguments, after --")
    return parser.parse_args()


def main() -> int:
    options = parse()
    if os.geteuid() != 0:
        raise SystemExit("expected root: namespaces, mounts and cgroups need it")
    os.environ["PATH"] = f"{s.BIN}:{tools.search_path()}"
    match options.verb:
        case "tools":
            tools.install()
        case "up":
            bring_up()
        case "down":
            node.down()
        case "status":
            return 0 if lifecycle.status() else 1
        case "logs":
            names = (
                [options.component] if options.component else [p.stem for p in sorted(s.LOGS.glob("*.log"))]
            )
            tail = ["tail", "-n", options.lines, *(str(s.LOGS / f"{n}.log") for n in names)]
            return subprocess.run(tail, check=False).returncode
        case "build":
            images.build(options.tag, options.context, options.file, options.build_arg)
            if node.init_pid() is not None:
                images.load([options.tag])
        case "load":
            images.load(options.sources)
        case "tag":
            images.ctr(
                "images", "tag", "--force", images.full_name(options.source), images.full_name(options.tag)
            )
        case "operator":
            arguments = options.args or ["--enable-leader-election=false"]
            lifecycle.run_operator(options.binary, options.crds, arguments)
    return 0


def bring_up() -> None:
    started = time.monotonic()
    if tools.missing():
        tools.install()
    lifecycle.up()
    tools.say(f"cluster: up in {time.monotonic() - started:.0f} s; {s.KUBECONFIG}")
    print(s.KUBECONFIG)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd))}: exit {error.returncode}\n{error.stderr or ''}")
