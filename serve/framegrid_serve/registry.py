"""The models of one replica, by name, and how they are changed while frames come in.

`apply` tries what is new in a process of its own, loads it beside what serves, and only then swaps the
reference: requests that started on the old model end on it, later ones start on the new. Whatever goes wrong
with a model, the old one stays. After a swap the old model is kept until the watch is over (`watch.py`), and
comes back when the new one misbehaves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framegrid_serve.bundle import Bundle, load_bundle
from framegrid_serve.bundle_cache import BundleCache
from framegrid_serve.errors import ModelError, UnknownModelError
from framegrid_serve.served import LoadedDetector, Model, Shadowing, described
from framegrid_serve.spec import BundleRef, ModelSpec, ServingConfig
from framegrid_serve.watch import Decision, WatchSettings, judge
from framegrid_serve.wire import FrameResult, FrameStatus

logger = logging.getLogger(__name__)

# Of live frames, when a watch asks for agreement with the old model.
_WATCHED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class _Watch:
    """One activation under observation."""

    previous: Model
    model: Model
    started_s: float


class ModelRegistry:
    """See the module. Thread-safe; `get`, `saw` and `review` never wait for a load.

    `trial` raises for a bundle that may not be loaded; it is asked only while something serves already.
    """

    def __init__(
        self,
        open_detector: Callable[[Bundle], LoadedDetector],
        *,
        trial: Callable[[Bundle], object] | None = None,
        locate: Callable[[BundleRef], Path] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_detector = open_detector
        self._trial = trial
        self._locate = locate or BundleCache(None).locate
        self._clock = clock
        self._models: dict[str, Model] = {}
        self._shadows: dict[str, Shadowing] = {}
        self._watches: dict[str, _Watch] = {}
        self._problems: dict[str, str] = {}
        self._rejected: dict[str, tuple[str, str]] = {}  # rolled back: name -> digest, reason
        self._default = ""
        self._watch_settings = WatchSettings()
        self._applying = threading.Lock()  # held for seconds, by loaders
        self._changing = threading.Lock()  # held for microseconds, around each new reference
        self.swaps = 0
        self.swap_failures = 0
        self.rollbacks = 0

    def apply(self, config: ServingConfig) -> list[str]:
        """Make `config` what is served; blocks while models load. Returns the problems, old models kept."""
        with self._applying:
            self._watch_settings = config.watch
            problems: dict[str, str] = {}
            is_guarded = self.ready()
            for spec in config.models:
                problem = self._load(spec, is_guarded) or self._load_shadow(spec)
                if problem:
                    problems[spec.name] = problem
            wanted = {spec.name for spec in config.models}
            # One assignment each: readers see the old or the new, never a half.
            with self._changing:
                self._models = {name: model for name, model in self._models.items() if name in wanted}
                self._shadows = {name: shadow for name, shadow in self._shadows.items() if name in wanted}
                self._watches = {name: watch for name, watch in self._watches.items() if name in wanted}
                self._problems = problems
                if config.default in self._models or self._default not in self._models:
                    self._default = config.default
            return [f"{name}: {problem}" for name, problem in problems.items()]

    def get(self, name: str) -> Model:
        """The model of that name ("" = the default). Raises UnknownModelError."""
        wanted = name or self._default
        model = self._models.get(wanted)
        if model is None:
            if wanted in self._problems:
                raise UnknownModelError(f"model {wanted!r} did not load: {self._problems[wanted]}")
            known = ", ".join(self._models) or "none"
            raise UnknownModelError(f"expected a model of {known}, got {wanted!r}; add it to the config")
        return model

    def describe(self) -> dict[str, Any]:
        """The body of `/v1/models`."""
        problems = self._problems
        models = [
            described(model, problems.get(model.name), self._shadows.get(model.name))
            for model in self._models.values()
        ]
        missing = [name for name in problems if name not in self._models]
        models += [{"name": name, "state": "failed", "problem": problems[name]} for name in missing]
        return {"default": self._default, "models": models}

    def ready(self) -> bool:
        """True when the default model serves."""
        return self._default in self._models

    def saw(self, model: Model, results: Sequence[FrameResult]) -> None:
        """Note how frames went; a rollback may follow. Microseconds."""
        for result in results:
            if result.status in (FrameStatus.OK, FrameStatus.FAILED):
                model.seen.add(result.infer_ms / 1e3, result.status is FrameStatus.FAILED)
        if self._watches:
            self.review()

    def review(self) -> None:
        """Decide about activations under observation."""
        for name, watch in list(self._watches.items()):
            elapsed_s = self._clock() - watch.started_s
            verdict = judge(watch.previous.seen, watch.model.seen, elapsed_s, self._watch_settings)
            if verdict.decision is Decision.WAIT:
                continue
            with self._changing:
                if self._watches.get(name) is not watch:
                    continue
                self._watches = {other: kept for other, kept in self._watches.items() if other != name}
                if verdict.decision is Decision.ROLL_BACK:
                    self._roll_back(watch, verdict.reason)
            logger.info("watch is over", extra={"model": name, "decision": verdict.decision.value})

    def shadow_of(self, model: Model) -> Shadowing | None:
        """What else is to see this model's frames: a candidate, or the old model while a watch compares."""
        shadow = self._shadows.get(model.name)
        watch = self._watches.get(model.name)
        if watch is not None and watch.model is model and self._watch_settings.min_agreement > 0:
            return Shadowing(watch.previous, _WATCHED_SHARE)
        return shadow

    @property
    def shadows(self) -> dict[str, Shadowing]:
        """Candidates that see live frames, by the model that they shadow."""
        return dict(self._shadows)

    def _roll_back(self, watch: _Watch, reason: str) -> None:
        name, failed = watch.model.name, watch.model
        problem = f"version {failed.version} was rolled back to {watch.previous.version}: {reason}"
        self._models = {**self._models, name: watch.previous}
        self._problems = {**self._problems, name: problem}
        self._rejected[name] = (failed.digest, problem)
        self.rollbacks += 1
        logger.error("model rolled back", extra={"model": name, "problem": problem})

    def _load(self, spec: ModelSpec, is_guarded: bool) -> str | None:
        """Load one model if it changed. Returns what went wrong."""
        current = self._models.get(spec.name)
        if current is not None and spec.path in (None, current.path) and spec.digest == current.digest:
            self._rejected.pop(spec.name, None)
            return None
        try:
            bundle = self._verified(spec)
            if current is not None and current.path == bundle.path and bundle.digest == current.digest:
                self._rejected.pop(spec.name, None)
                return None
            rejected_digest, problem = self._rejected.get(spec.name, ("", ""))
            if bundle.digest == rejected_digest:
                return problem
            model = self._opened(spec.name, bundle, is_guarded)
        # An engine may fail with anything, and the old model must stay.
        except Exception as error:  # noqa: BLE001
            self.swap_failures += 1
            logger.error("model did not load", extra={"model": spec.name, "problem": str(error)})
            problem = _text_of(error)
            if current is None and spec.previous is not None:
                problem += self._load_previous(spec.name, spec.previous)
            return problem
        self._take_into_service(model)
        return None

    def _load_previous(self, name: str, previous: BundleRef) -> str:
        """For a replica that starts with a model that is broken. Returns what to add to the problem."""
        try:
            self._take_into_service(self._opened(name, self._verified(previous), is_guarded=False))
        except Exception as error:  # noqa: BLE001 - as above
            return f"; and the previous one: {_text_of(error)}"
        return "; the previous one serves"

    def _load_shadow(self, spec: ModelSpec) -> str | None:
        """Load, keep or drop the candidate that shadows a model. Returns what went wrong."""
        current = self._shadows.get(spec.name)
        shadow: Shadowing | None = None
        problem = None
        if spec.shadow is not None:
            wanted = spec.shadow
            try:
                bundle = self._verified(wanted)
                if current and (current.other.path, current.other.digest) == (bundle.path, bundle.digest):
                    shadow = Shadowing(current.other, wanted.share)
                else:
                    shadow = Shadowing(self._opened(spec.name, bundle, self.ready()), wanted.share)
            except Exception as error:  # noqa: BLE001 - as above
                problem = f"shadow: {_text_of(error)}"
        with self._changing:
            self._shadows = {name: kept for name, kept in self._shadows.items() if name != spec.name}
            if shadow is not None:
                self._shadows[spec.name] = shadow
        return problem

    def _verified(self, wanted: BundleRef) -> Bundle:
        bundle = load_bundle(self._locate(wanted))
        if wanted.digest and bundle.digest != wanted.digest:
            raise ModelError(f"{bundle.path}: expected digest {wanted.digest}, got {bundle.digest}")
        return bundle

    def _opened(self, name: str, bundle: Bundle, is_guarded: bool) -> Model:
        if bundle.weights_path.suffix == ".pt":
            raise ModelError(
                f"{bundle.weights_path}: a .pt is a pickle, which a server never opens; "
                f"import the model first (`framegrid model import`)"
            )
        if is_guarded and self._trial is not None:
            self._trial(bundle)
        return Model(name, bundle.path, self._open_detector(bundle))

    def _take_into_service(self, model: Model) -> None:
        with self._changing:
            current = self._models.get(model.name)
            self._models = {**self._models, model.name: model}
            self._watches = {name: watch for name, watch in self._watches.items() if name != model.name}
            if current is not None and self._watch_settings.window_s > 0:
                self._watches[model.name] = _Watch(current, model, self._clock())
            self._rejected.pop(model.name, None)
            self.swaps += 1
        logger.info("model serves", extra={"model": model.name, "version": model.version})


def _text_of(error: Exception) -> str:
    return str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
