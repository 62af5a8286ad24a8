"""A study as data: what is raced on what, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    model_validator,
)

from . import catalog, expressions, rates
from .sentences import unknown
from .specfields import (
    Budgets,
    Components,
    Count,
    LearningRates,
    Location,
    Name,
    Points,
    Seeds,
    SpecError,
    Targets,
    base_folder,
    from_validation,
    references_from,
)
from .studyfile import find_study, read_study
from .types import Component, UsageError

Where = Callable[[Location], str]
T = TypeVar("T")
DTYPES = ("float32", "float64", "bfloat16")


class _Model(BaseModel):
    """Unknown keys are errors, nothing changes afterwards, and every error is a `SpecError`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise from_validation(error, type(self)) from None


class Strategy(_Model):
    """Which `tf.distribute` strategy runs the programs, and what is split over its replicas."""

    name: Literal["default", "one_device", "mirrored", "multi_worker_mirrored", "central_storage"] = Field(
        default="default", description="The tf.distribute strategy."
    )
    replicas: Count = Field(default=None, description="How many replicas; all devices by default.")
    devices: tuple[StrictStr, ...] | None = Field(default=None, description="Devices by name, as GPU:0.")
    split: Literal["lanes", "batch"] = Field(
        default="lanes",
        description="lanes: each replica its own runs; batch: each replica its part of every batch.",
    )
    drop_remainder: StrictBool = Field(
        default=False,
        description="With split: batch, leave out examples that make no whole part for every replica.",
    )

    @property
    def parts(self) -> int:
        """Parts that a split batch is cut into."""
        return self.replicas or len(self.devices or ()) or 1


class Record(_Model):
    """What is recorded of each run."""

    points: Points = Field(default=50, description="Recorded points per curve.")
    stability: StrictBool = Field(default=True, description="Sum parameter stability on the device.")
    curves: StrictBool = Field(default=True, description="Keep the curves, not only one row per run.")


def _part(model: type[_Model], key: str) -> Callable[[Any], Any]:
    """Makes a nested model, so that what is wrong in it is located from the top of the study."""

    def make(value: Any) -> Any:
        if value is None:
            return model()
        if isinstance(value, str) and model is Strategy:
            value = {"name": value}  # `mirrored` is short for `{name: mirrored}`
        if not isinstance(value, Mapping):
            return value
        if not all(isinstance(name, str) for name in value):
            raise SpecError((key,), f"the keys of '{key}' must be text")
        try:
            return model(**value)
        except SpecError as error:
            raise error.below(key) from None

    return make


class StudySpec(_Model):
    """A study: workloads × optimizers × learning rates × seeds, and how they are run.

    Fields are in their final form whatever form they were given in: `workloads` and `optimizers` are
    tuples of `Component`, `seeds` a tuple. What is left out is decided per workload or optimizer:
    `budget`, `target_of`, `dtype_of` and `rates_of` give the answer.
    """

    name: Name = Field(default="study", description="Names the results folder; the file's name by default.")
    description: StrictStr = Field(default="", description="One line for `optgrid list studies`.")
    workloads: Components = Field(description="Workloads: name or name(parameter=value).")
    optimizers: Components = Field(description="Optimizers: name or name(hyperparameter=[values]).")
    learning_rates: LearningRates = Field(
        default=None, description="A list, a range, or either per optimizer; each optimizer's own by default."
    )
    seeds: Seeds = Field(default=tuple(range(10)), description="How many seeds, or which.")
    steps: Budgets = Field(
        default=None, description="Budget of a run in steps; the workload's own by default."
    )
    target: Targets = Field(
        default=None, description="Target, lower is better; the workload's own by default."
    )
    stop: Literal["budget", "target"] = Field(
        default="budget", description="Run the whole budget, or stop at the target."
    )
    dtype: Literal["float32", "float64", "bfloat16"] | None = Field(
        default=None, description="What runs compute in; the workload's own by default."
    )
    strategy: Annotated[Strategy, BeforeValidator(_part(Strategy, "strategy"))] = Field(
        default_factory=lambda: Strategy(), description="How programs are spread over devices."
    )
    out: StrictStr | None = Field(default=None, description="Results folder; results/<name> by default.")
    workers: Count = Field(default=None, description="Workers; one per core or GPU by default.")
    record: Annotated[Record, BeforeValidator(_part(Record, "record"))] = Field(
        default_factory=lambda: Record(), description="What is kept of a run."
    )
    lanes: Count = Field(default=None, description="Runs per program; chosen by memory and speed by default.")
    profile: StrictBool = Field(
        default=False, description="Measure the optimizers' update kernels as well, once the runs are done."
    )

    @property
    def folder(self) -> str:
        """Where results go."""
        return self.out or f"results/{self.name}"

    def budget(self, workload: Component) -> int:
        """Steps of a run on this workload."""
        found = _for(self.steps, workload, "workload")
        return int(_own("steps", workload) if found is None else found)

    def target_of(self, workload: Component) -> float:
        """Target on this workload."""
        found = _for(self.target, workload, "workload")
        return float(_own("target", workload) if found is None else found)

    def dtype_of(self, workload: Component) -> str:
        """What runs on this workload compute in."""
        found = self.dtype or str(_own("dtype", workload, "float32"))
        if found not in DTYPES:
            raise SpecError(("workloads",), f"'{workload.label}': {unknown('dtype', found, DTYPES)}")
        return found

    def rates_of(self, optimizer: Component) -> tuple[float, ...]:
        """Learning rates of this optimizer: the study's, or its own default range."""
        if isinstance(self.learning_rates, tuple):
            return self.learning_rates
        found = _for(self.learning_rates, optimizer, "optimizer")
        return _default_rates(optimizer) if found is None else found

    def resolved(self) -> dict[str, Any]:
        """Everything decided, as JSON; `StudySpec(**resolved)` gives the same cells."""
        return {
            **self.model_dump(mode="json"),
            "learning_rates": {o.label: list(self.rates_of(o)) for o in self.optimizers},
            "steps": {w.label: self.budget(w) for w in self.workloads},
            "target": {w.label: self.target_of(w) for w in self.workloads},
        }

    @model_validator(mode="after")
    def _consistent(self) -> StudySpec:
        if isinstance(self.learning_rates, dict):
            _known_keys("learning_rates", self.learning_rates, "optimizer", self.optimizers)
        for name, value in (("steps", self.steps), ("target", self.target)):
            if isinstance(value, dict):
                _known_keys(name, value, "workload", self.workloads)
        for optimizer in self.optimizers:
            self.rates_of(optimizer)
        for workload in self.workloads:
            for decide in (self.budget, self.target_of, self.dtype_of):
                decide(workload)
        if self.strategy.split == "batch" and not (self.strategy.replicas or self.strategy.devices):
            why = "the number of parts that a batch is split into decides the result"
            raise SpecError(("strategy",), f"split: batch needs 'replicas' or 'devices': {why}")
        fault = _unfit(self.strategy, self.workers)
        if fault:
            raise SpecError(("strategy",), fault)
        return self


def _unfit(strategy: Strategy, workers: int | None) -> str:
    """What of a strategy's fields does not fit together, as a sentence; empty where all does."""
    name, replicas, devices = strategy.name, strategy.replicas, len(strategy.devices or ())
    batch = strategy.split == "batch"
    if strategy.drop_remainder and not batch:
        return "drop_remainder is for split: batch: with split: lanes every batch stays whole"
    if devices != len(set(strategy.devices or ())):
        return "a device is named twice in 'devices'"
    if name in ("default", "one_device"):
        if (replicas or 1) > 1 or (batch and strategy.parts > 1):
            return f"'{name}' has one replica, not {strategy.parts}: use mirrored"
    elif name != "multi_worker_mirrored":
        if replicas and devices and replicas != devices:
            return f"{replicas} replicas need as many 'devices', not {devices}"
    elif batch and not replicas:
        return "multi_worker_mirrored with split: batch needs 'replicas', the number of all workers' together"
    elif batch and replicas and replicas % (workers or devices or 1):
        what = f"{workers} workers" if workers else f"workers of {devices} devices"
        return f"{replicas} replicas cannot be shared out evenly over {what}"
    elif batch and replicas and workers and devices and replicas != workers * devices:
        return (
            f"{workers} workers with {devices} devices each make {workers * devices} replicas, not {replicas}"
        )
    return ""


def build_study(
    fields: Mapping[str, Any], base: Path | None = None, where: Where = lambda location: ""
) -> StudySpec:
    """A checked study of plain values.

    Args:
        fields: as in a study file.
        base: folder that relative `file.py:Class` references start from; the current one by default.
        where: what to say before a sentence about a location, such as file and line.
    Raises:
        UsageError: one sentence about the first thing that is wrong.
    """
    strange = next((key for key in fields if not isinstance(key, str)), None)
    try:
        if strange is not None:
            raise SpecError((), f"a key must be text, not {strange!r}")
        with references_from(base):
            return StudySpec(**fields)
    except SpecError as error:
        raise SpecError(error.location, where(error.location) + error.sentence) from None


def load_study(study: str | Path, overrides: Mapping[str, Any] | None = None) -> StudySpec:
    """A study file, or a built-in study by name, with some fields replaced.

    Args:
        study: a path, or a name that `optgrid list studies` shows.
        overrides: fields that replace the file's, as flags do. Relative plug-in files in them start
            from the current folder, those of the file from the file's folder.
    Raises:
        UsageError: one sentence with file and line (or flag), what is wrong, and near matches.
    """
    file = read_study(find_study(str(study)))
    given = {key: _absolute(value) for key, value in (overrides or {}).items()}
    fields = {"name": file.path.stem, **file.data, **given}

    def where(location: Location) -> str:
        return _flag(location) if location and location[0] in given else file.where(location)

    for key, races in (("learning_rates", "optimizers"), ("steps", "workloads"), ("target", "workloads")):
        if races in given and key not in given:
            fields[key] = _pruned(fields.get(key), races, given[races])
    return build_study(fields, file.path.resolve().parent, where)


def study_of_flags(fields: Mapping[str, Any]) -> StudySpec:
    """A study of flags alone; what is wrong is said of the flag."""
    return build_study(fields, None, _flag)


def study_schema() -> dict[str, Any]:
    """JSON schema of a study file, the names of the catalogue among its examples."""
    schema = StudySpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "OptGrid study"
    schema["properties"]["workloads"]["examples"] = [catalog.names("workload")]
    schema["properties"]["optimizers"]["examples"] = [catalog.names("optimizer")]
    whole = schema["properties"]["strategy"]
    short = {"enum": schema["$defs"]["Strategy"]["properties"]["name"]["enum"]}
    schema["properties"]["strategy"] = {
        "anyOf": [{"$ref": "#/$defs/Strategy"}, short],
        "description": whole.get("description", ""),
    }
    return schema


# How the command line calls the fields that it can replace.
FLAGS = {
    "name": "--name",
    "workloads": "--workload",
    "optimizers": "--optimizer",
    "learning_rates": "--lr",
    "seeds": "--seeds",
    "steps": "--steps",
    "target": "--target",
    "stop": "--stop",
    "dtype": "--dtype",
    "strategy": "--strategy",
    "out": "--out",
    "workers": "--workers",
}


def _flag(location: Location) -> str:
    flag = FLAGS.get(str(location[0])) if location else None
    return f"{flag}: " if flag else ""


def _absolute(value: Any) -> Any:
    """Flags' values with plug-in files made absolute."""
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    return expressions.absolute_references(value, Path.cwd()) if isinstance(value, str) else value


def _matches(key: str, component: Component, family: catalog.Family) -> bool:
    """Whether a key names a component: by its label, written in any way, or by its name."""
    if key in (component.label, component.name):
        return True
    if "(" not in key:
        return False
    try:
        return any(found.label == component.label for found in expressions.parse(family, key, base_folder()))
    except UsageError:
        return False


def _for(values: Mapping[str, T] | T | None, component: Component, family: catalog.Family) -> T | None:
    """The value that holds for a component: by its label before its name."""
    if not isinstance(values, Mapping):
        return values
    keys = [key for key in values if _matches(key, component, family)]
    if not keys:
        return None
    # `adam` is the label of one component and the name of all its variants.
    exact = [key for key in keys if key == component.label or key != component.name]
    return values[(exact or keys)[0]]


def _known_keys(
    name: str, values: Mapping[str, Any], family: catalog.Family, components: tuple[Component, ...]
) -> None:
    for key in values:
        if not any(_matches(key, component, family) for component in components):
            labels = [component.label for component in components]
            raise SpecError((name, key), f"in '{name}': {unknown(f'{family} of this study', key, labels)}")


def _pruned(values: Any, races: str, given: Any) -> Any:
    """A mapping per optimizer or workload, without those that flags have replaced."""
    if not isinstance(values, Mapping) or set(values) & set(rates.RANGE_KEYS):
        return values
    family: catalog.Family = "workload" if races == "workloads" else "optimizer"
    try:
        raced = [component for text in given for component in expressions.parse(family, text)]
    except UsageError:
        return values  # what is wrong with the flag is said when the study is built
    return {k: v for k, v in values.items() if any(_matches(str(k), c, family) for c in raced)} or None


def _own(name: str, workload: Component, fallback: Any = None) -> Any:
    """A workload's own `steps`, `target` or `dtype`."""
    constants = catalog.entry_of("workload", workload).constants
    found = workload.params.get(name, constants.get(name, fallback))
    if found is None:
        why = f"'{workload.label}' declares no '{name}': give '{name}' in the study"
        raise SpecError(("workloads",), why)
    return found


def _default_rates(optimizer: Component) -> tuple[float, ...]:
    """An optimizer's own default range; a transform without one uses that of what it wraps first."""
    own = catalog.entry_of("optimizer", optimizer).constants.get("learning_rates")
    if own is None and optimizer.inner:
        return _default_rates(optimizer.inner[0])
    try:
        low, high = own if own is not None else (None, None)
        return rates.decades(rates.rate(low), rates.rate(high), rates.POINTS_PER_DECADE)
    except (TypeError, ValueError):
        why = "declares no range learning_rates = (low, high): give 'learning_rates' in the study"
        raise SpecError(("optimizers",), f"'{optimizer.label}' {why}") from None
