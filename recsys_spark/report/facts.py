"""Everything the page says, as small plain values: no Spark below this line, no HTML above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recsys_spark.evaluation.metrics import ALL, COVERAGE, NEW, PER_USER_METRICS

METRIC_NAMES: Final = (*PER_USER_METRICS, COVERAGE)
SLICES: Final = (ALL, NEW)


@dataclass(frozen=True)
class Refusal:
    """One reason that rows of a source were refused for, and one of these rows."""

    reason: str
    rows: int
    example: str


@dataclass(frozen=True)
class SourceFact:
    """What became of the rows of one source: read = accepted + rejected."""

    name: str
    place: str
    accepted: int
    rejected: int
    refusals: tuple[Refusal, ...]

    @property
    def read(self) -> int:
        return self.accepted + self.rejected


@dataclass(frozen=True)
class Week:
    """Events of the seven days from `start` (ISO date); `number` counts from the start of the test window."""

    number: int
    start: str
    events: int


@dataclass(frozen=True)
class Timeline:
    """Events per week and the windows of the split, in days from the start of the test window."""

    weeks: tuple[Week, ...]
    earlier: int
    later: int
    test_start: str
    test_days: int
    validation_days: int
    train_cut_offs: int
    window_days: int


@dataclass(frozen=True)
class Histogram:
    """Counts of a whole number: `counts[i]` rows have a value of [low + i * width, low + (i + 1) * width)."""

    low: int
    width: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class SequencesFact:
    """How long the sequences are that the test users were scored with; rows per split."""

    max_events: int
    lengths: Histogram
    full: int
    median: float
    rows: dict[str, int]


@dataclass(frozen=True)
class CatalogueFact:
    """The items: how many have a text, were ever chosen before the cut-off, are recommended to anybody."""

    items: int
    with_text: int
    chosen: int
    listed: int
    tokens: Histogram
    full: int
    max_tokens: int


@dataclass(frozen=True)
class TrainingFact:
    """The curves of the run's model, as they were tracked."""

    model: str
    tracking_run: str
    metric: str
    loss: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class BlendPoint:
    """Validation NDCG@10 of one weight of the two towers."""

    weight: float
    ndcg: float
    users: int


@dataclass(frozen=True)
class Figure:
    """One row of METRICS."""

    slice: str
    method: str
    metric: str
    k: int
    value: float
    lower: float | None
    upper: float | None
    users: int


@dataclass(frozen=True)
class StageFact:
    """The latest run of one stage: what it cost, what it wrote (table -> version, rows), what it noted."""

    name: str
    finished: str
    seconds: float
    peak_mib: int
    versions: dict[str, int]
    rows: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PastEvent:
    """One event of a user's history."""

    day: str
    kind: str
    text: str


@dataclass(frozen=True)
class ListedItem:
    """One place of a list; `is_hit`: the user did choose it in the test window; a pinned item may have no score."""

    rank: int
    text: str
    score: float | None
    reason: str
    is_hit: bool


@dataclass(frozen=True)
class UserFact:
    """One user: the last events before the cut-off (newest first) and the lists, one per seen rule."""

    user_id: str
    num_events: int
    num_chosen: int
    history: tuple[PastEvent, ...]
    lists: dict[str, tuple[ListedItem, ...]]


@dataclass(frozen=True)
class Facts:
    """All of one run's page."""

    run_id: str
    made_at: str
    test_start: str
    test_end: str
    ks: tuple[int, ...]
    event_types: tuple[str, ...]
    num_users: int
    num_served: int
    sources: tuple[SourceFact, ...]
    timeline: Timeline
    sequences: SequencesFact
    catalogue: CatalogueFact
    training: TrainingFact | None
    blends: tuple[BlendPoint, ...]
    figures: tuple[Figure, ...]
    stages: tuple[StageFact, ...]
    users: tuple[UserFact, ...]
