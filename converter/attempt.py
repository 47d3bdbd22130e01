"""Attempt: one set of weights as int8, run as the gateway would run it, and judged.

In: the weights, the windows, the settings. Out: an `Attempt`; where int8 costs more than the limits
allow, or if it is wanted, a second one whose weights have learned to be rounded, and which of both
is the better. Never: judges the second by another yardstick: both are compared with the float
network as it was trained.
"""

from __future__ import annotations

from typing import NamedTuple

from converter.baseline import LinearRival
from converter.build_settings import BuildSettings
from converter.console import Steps
from converter.dataset import Dataset, Features
from converter.evaluate import Scores
from converter.fidelity import Comparison, Rated, compare, losses, rate
from converter.filling import model_spec
from converter.layers import worst
from converter.models import ModelSettings
from converter.models.rounding import learn_rounding, rounding_objection
from converter.models.training import Trained, Weights
from converter.quantize import Converted, convert
from edge_agent.bundles.interpreter import Interpreter
from edge_agent.bundles.manifest import ModelSpec
from edge_agent.bundles.model import model_of
from edge_agent.judging.pipeline import Model
from edge_agent.judging.scoring import Scorer
from edge_agent.judging.threshold import Speeds, commission, speed_edges
from edge_agent.judging.threshold_spec import ThresholdSpec


class Runners(NamedTuple):
    """The models as the gateway runs them; `int8` None if it can't be made."""

    float32: Model
    int8: Model | None


class Attempt(NamedTuple):
    """What was made, what the manifest says of it, and what it is worth."""

    converted: Converted
    spec: ModelSpec
    runners: Runners
    comparison: Comparison


class Learned(NamedTuple):
    """Whether weights that have learned to be rounded were tried, the Spearman of the scores
    without and with them, and whether they are what ships; `why_not` where they can't be had."""

    tried: bool = False
    spearman_before: float | None = None
    spearman_after: float | None = None
    used: bool = False
    why_not: str | None = None


class Judge:
    """Everything that both attempts of a build have in common. `fit` and `representative` are
    scaled windows."""

    def __init__(
        self,
        settings: BuildSettings,
        model: ModelSettings,
        trained: Trained,
        scorer: Scorer,
        dataset: Dataset,
        representative: Features,
    ) -> None:
        self._settings, self._model, self._trained = settings, model, trained
        self._scorer, self._dataset = scorer, dataset
        self._fit = scorer.scale(dataset.fit.features)
        self._representative = representative
        self._float: Model | None = None
        self._rivals: tuple[Rated, Rated] | None = None

    def best(self, steps: Steps) -> tuple[Attempt, Learned]:
        """The attempt that ships, or would. Raises `ConverterError`."""
        first = self._attempt(self._trained.weights, steps)
        learned = Learned(spearman_before=first.comparison.spearman)
        if not self._wants_rounding(first.comparison):
            return first, learned
        objection = rounding_objection(self._model, self._settings.activations)
        if objection:
            return first, learned._replace(why_not=objection)
        weights = learn_rounding(
            self._model,
            self._settings.train,
            self._trained.weights,
            self._fit,
            self._scorer.scale(self._dataset.validation.features),
            self._representative,
            self._settings.headroom,
            steps,
        )
        second = self._attempt(weights, steps)
        used = _worth(second.comparison) > _worth(first.comparison)
        after = second.comparison.spearman
        learned = learned._replace(tried=True, spearman_after=after, used=used)
        return (second if used else first), learned

    def _wants_rounding(self, comparison: Comparison) -> bool:
        if comparison.int8 is None or self._settings.qat == "never":
            return False
        # A file that is only too large does not become smaller by it.
        return self._settings.qat == "always" or bool(losses(comparison, self._settings.limits))

    def _attempt(self, weights: Weights, steps: Steps) -> Attempt:
        settings, model = self._settings, self._model
        steps.begin("float and int8")
        converted = convert(
            model,
            weights,
            self._representative,
            settings.headroom,
            int8=model.int8_refusal is None,
            activations=settings.activations,
            form=settings.form,
        )
        steps.begin("comparison")
        spec = model_spec(model, self._trained, converted.parts)
        int8 = model_of(spec, converted.files) if converted.files else None
        # What both are compared with is the network as it was trained.
        self._float = self._float or Interpreter(converted.float32)
        runners = Runners(self._float, int8)
        return Attempt(converted, spec, runners, self._compared(converted, runners))

    def _compared(self, converted: Converted, runners: Runners) -> Comparison:
        if self._rivals is None:
            rival = LinearRival(self._fit)
            linear = self._rated(rival, 4 * rival.parameters)
            self._rivals = self._rated(runners.float32, len(converted.float32)), linear
        float32, linear = self._rivals
        size_bytes = sum(map(len, converted.files.values()))
        int8 = self._rated(runners.int8, size_bytes) if runners.int8 else None
        limits, refusal = self._settings.limits, self._model.int8_refusal
        return compare(float32, int8, linear, limits, refusal, worst(converted.layers))

    def _rated(self, runner: Model, size_bytes: int) -> Rated:
        held_out, evaluate = self._dataset.held_out, self._dataset.evaluate
        return rate(runner, size_bytes, self._scorer, held_out, evaluate, self._threshold)

    def _threshold(self, scores: Scores, speeds: Scores) -> ThresholdSpec:
        settings, edges = self._settings, None
        if settings.speed_channel is not None:
            edges = speed_edges(self._dataset.fit.speed, settings.speed_bins)
        found = commission(
            scores, settings.threshold, settings.q, settings.factor, settings.adaptive,
            Speeds(speeds, edges) if edges else None,
        )  # fmt: skip
        return found.model_copy(update={"absolute": settings.absolute})


def _worth(comparison: Comparison) -> tuple[bool, float]:
    """What ships beats what does not, then the ranking of the scores counts."""
    return comparison.accepted, comparison.spearman or 0.0
