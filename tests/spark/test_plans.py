"""What Spark plans for the transforms: no row goes to Python, and ranking drops rows before it shuffles them."""

import inspect
import pkgutil
import re
from datetime import UTC, datetime
from importlib import import_module

import pytest
from pyspark.sql import functions as F

import recsys_spark.evaluation
import recsys_spark.transforms
from recsys_spark.config import EvaluateConfig
from recsys_spark.evaluation import baselines, metrics
from recsys_spark.tables import catalog
from recsys_spark.transforms import (
    blend,
    candidates,
    changes,
    history,
    ingest,
    item_index,
    items,
    lists,
    order,
    rules,
    sequences,
    users,
    values,
)

pytestmark = pytest.mark.spark

START, END = datetime(2020, 6, 1, tzinfo=UTC), datetime(2020, 6, 29, tzinfo=UTC)
MARKS = ("BatchEvalPython", "ArrowEvalPython", "MapInArrow", "MapInPandas", "InPandas")
EVALUATE = EvaluateConfig(
    ks=[10], popular_days=30, personal_decay_days=30, knn_history=5, knn_neighbours=5, bootstrap_replicates=2
)
TIMELINE = {
    "cut_offs": [sequences.CutOff("train", START, END)], "max_events": 4, "max_targets": 2, "event_types": ["view"],
    "target_event_types": ["view"], "seed": 1,
}  # fmt: skip


def plan_of(rows):
    """Every stage of the plan as text: parsed, analysed, optimised, physical."""
    return rows._jdf.queryExecution().toString()


def marks(rows):
    return [mark for mark in MARKS if mark in plan_of(rows)]


@pytest.fixture(scope="module")
def tables(spark):
    """`tables("user_id string")`: many rows of those columns, of which Spark knows nothing but their types."""

    def make(ddl):
        told = F.from_json(F.col("id").cast("string"), ddl).alias("told")
        return spark.range(10**6).select(told).select("told.*")

    return make


class Frames:
    """The arguments that transforms take."""

    def __init__(self, make):
        def of(table, more=""):
            return make(", ".join(f"`{column.name}` {column.sql_type}" for column in table.columns) + more)

        self.events, self.items, self.index = of(catalog.EVENTS), of(catalog.ITEMS), of(catalog.ITEM_INDEX)
        self.written_index = of(catalog.ITEM_INDEX, f", {item_index.WRITTEN_AT} timestamp")
        self.numbered = of(catalog.EVENTS, ", item_idx int")
        self.candidates, self.sequences, self.blends = of(catalog.CANDIDATES), of(catalog.SEQUENCES), of(catalog.BLENDS)
        self.towers = make("seen_rule string, user_id string, item_id string, rank int, score double")
        self.users = make("user_id string")
        self.vectors = of(catalog.USER_EMBEDDINGS)
        self.raw = make(
            "who string, what string, at string, _recsys_malformed string, _recsys_swallowed int, "
            "_recsys_inner_lines int, _recsys_file string, _recsys_block bigint, _recsys_number bigint, "
            "_recsys_kept_out string"
        )
        self.parsed = of(
            catalog.EVENTS_REJECTED,
            ", event_id string, _recsys_kept_out string, _recsys_swallowed int, _recsys_inner_lines int, "
            "_recsys_undecoded boolean, _recsys_float_id boolean",
        )
        self.counts = make("user_id string, item_id string, score double, num_events int, last_ts timestamp")
        self.blended = make("tower_weight double, seen_rule string, user_id string, item_id string, score double")
        self.lists = make("method string, slice string, user_id string, item_id string, rank int")
        self.truth = make("slice string, user_id string, item_id string")
        self.scored = make("slice string, user_id string, item_id string, score double")
        self.popular = make("item_id string, score double")
        self.heaviest = make("user_id string, item_id string, weight double, norm double")
        self.pinnable = make(
            "seen_rule string, user_id string, item_id string, score double, sources array<string>, tower_weight double"
        )
        self.pins = make("seen_rule string, user_id string, item_id string, position int")
        self.groups = of(catalog.ITEM_GROUPS)
        self.rules = rules.Rules(
            conditions={"dear": "item.price < user.budget AND item.stock > 0"},
            caps={"item.brand": 1},
            item_tables=(make("item_id string, stock int"),),
            user_tables=(make("user_id string, budget double"),),
            blocked=make("user_id string, item_id string"),
            pinned=make("item_id string, position int"),
        )
        self.per_user = make(
            "method string, slice string, user_id string, k int, ndcg double, recall double, precision double, "
            "mrr double"
        )


@pytest.fixture(scope="module")
def frames(tables):
    return Frames(tables)


WHEN = {"as_of": START}
DECAY = {**WHEN, "decay_days": 9.0}
MEASURED = {**WHEN, "seen_rule": "keep", "k": 10}
STAMP = values.Notation.of(pattern="yyyy-MM-dd", zone="UTC", missing=["-"], decimal=",")
EVENT_MAP, ITEM_MAP = {"who": "user_id", "what": "item_id", "at": "ts"}, {"what": "item_id", "who": "attributes.who"}

CASES = {
    blend.tower_gains: lambda f: blend.tower_gains(f.towers),
    candidates.list_items: lambda f: candidates.list_items(f.candidates, f.index),
    blend.blend_candidates: lambda f: blend.blend_candidates(f.towers, f.counts, f.blends, **WHEN),
    blend.rank_blends: lambda f: blend.rank_blends(f.blended, list_size=5),
    blend.measure_weights: lambda f: blend.measure_weights(
        f.towers, f.counts, f.blends, f.truth, seen_rule="keep", **WHEN, k=10
    ),
    blend.best_weight: lambda f: blend.best_weight(f.blends),
    changes.without_equals: lambda f: changes.without_equals(f.events, f.items, on=["item_id"]),
    history.before: lambda f: history.before(f.events, START),
    history.within: lambda f: history.within(f.events, START, END),
    history.of_types: lambda f: history.of_types(f.events, ["view"]),
    history.of_items: lambda f: history.of_items(f.events, f.items),
    history.seen_items: lambda f: history.seen_items(f.events),
    history.decayed_counts: lambda f: history.decayed_counts(f.events, **DECAY),
    lists.rank_lists: lambda f: lists.rank_lists(
        f.pinnable, f.towers, f.counts, f.items, f.groups, f.rules, **WHEN, list_size=5
    ),
    lists.add_pins: lambda f: lists.add_pins(f.pinnable, f.pins),
    lists.make_lists: lambda f: lists.make_lists(
        f.pinnable.join(f.pins, on=["seen_rule", "user_id", "item_id"]), f.groups, most=(1, 2), list_size=5
    ),
    rules.describe_items: lambda f: rules.describe_items(f.items, f.rules),
    rules.describe_users: lambda f: rules.describe_users(f.users, f.rules),
    rules.number_segments: lambda f: rules.number_segments(f.vectors, f.rules),
    rules.allow_items: lambda f: rules.allow_items(
        rules.number_segments(f.vectors, f.rules).select("segment", "as_of", "user_facts", "user").distinct(),
        f.items,
        f.index,
        f.rules,
    ),
    rules.rules_of_users: lambda f: rules.rules_of_users(rules.number_segments(f.vectors, f.rules), f.index, f.rules),
    rules.allowed_pairs: lambda f: rules.allowed_pairs(f.counts, f.items, f.rules, **WHEN),
    rules.group_items: lambda f: rules.group_items(f.items, f.index, f.rules),
    ingest.parse_events: lambda f: ingest.parse_events(
        f.raw, columns=EVENT_MAP, event_type="view", notation=STAMP, repeats="keep"
    ),
    ingest.parse_items: lambda f: ingest.parse_items(f.raw, columns=ITEM_MAP, notation=STAMP),
    ingest.name_kept_out: lambda f: ingest.name_kept_out(f.raw.drop("_recsys_kept_out"), {"own": "who <> 'x'"}),
    ingest.count_outcomes: lambda f: ingest.count_outcomes(f.parsed, {"own": "who <> 'x'"}),
    ingest.forget_accepted_raw: lambda f: ingest.forget_accepted_raw(f.parsed),
    ingest.refuse_known: lambda f: ingest.refuse_known(f.parsed, f.events, batch="full"),
    ingest.faulty: lambda f: ingest.faulty(f.parsed),
    ingest.accepted: lambda f: ingest.accepted(f.parsed),
    ingest.rejected: lambda f: ingest.rejected(f.parsed),
    item_index.keep_first_numbers: lambda f: item_index.keep_first_numbers(f.written_index),
    items.number_new_items: lambda f: items.number_new_items(f.items, f.index),
    items.text_fields: lambda f: items.text_fields(f.items, f.index, template="{title}, {attributes.size}"),
    order.keep_best: lambda f: order.keep_best(f.counts, "user_id", num_rows=5),
    sequences.number_events: lambda f: sequences.number_events(f.events, f.index),
    sequences.build_sequences: lambda f: sequences.build_sequences(f.numbered, **TIMELINE),
    sequences.spread_over_files: lambda f: sequences.spread_over_files(f.sequences, num_files=3),
    users.with_seen_items: lambda f: users.with_seen_items(f.vectors, f.numbered),
    baselines.popularity: lambda f: baselines.popularity(f.events, **WHEN, popular_days=30),
    baselines.popular_lists: lambda f: baselines.popular_lists(f.popular, f.counts, f.users, list_size=5),
    baselines.fill_lists: lambda f: baselines.fill_lists(f.scored, f.lists, method="m", list_size=5),
    baselines.personal_scores: lambda f: baselines.personal_scores(f.counts, f.popular, f.users),
    baselines.heaviest_items: lambda f: baselines.heaviest_items(f.counts, knn_history=5),
    baselines.nearest_items: lambda f: baselines.nearest_items(f.heaviest, knn_neighbours=5),
    baselines.item_knn_scores: lambda f: baselines.item_knn_scores(f.counts, f.users, knn_history=5, knn_neighbours=5),
    baselines.baseline_lists: lambda f: baselines.baseline_lists(
        f.popular, f.counts, f.users, list_size=5, settings=EVALUATE
    ),
    metrics.as_lists: lambda f: metrics.as_lists(f.towers, method="m"),
    metrics.truth_slices: lambda f: metrics.truth_slices(f.events, f.counts),
    metrics.per_user_metrics: lambda f: metrics.per_user_metrics(f.lists, f.truth, [10]),
    metrics.summarise: lambda f: metrics.summarise(f.per_user, replicates=3, seed=1),
    metrics.coverage: lambda f: metrics.coverage(f.lists, f.items, [10]),
    # functions of columns
    values.trim_text: lambda f: f.items.select(values.trim_text(F.col("title"))),
    values.without_missing: lambda f: f.items.select(values.without_missing(F.col("title"), STAMP)),
    values.is_undecoded: lambda f: f.items.select(values.is_undecoded(F.col("title"))),
    values.is_float_id: lambda f: f.items.select(values.is_float_id(F.col("title"))),
    values.is_rounded_id: lambda f: f.items.select(values.is_rounded_id(F.col("title"))),
    values.number: lambda f: f.items.select(values.number(F.col("title"), STAMP)),
    values.moment: lambda f: f.items.select(values.moment(F.col("title"), STAMP)),
    blend.reason: lambda f: blend.blend_candidates(f.towers, f.counts, f.blends, **WHEN).select(
        blend.reason(as_of=START, event_types=["view"])
    ),
    history.age_days: lambda f: f.events.select(history.age_days("ts", as_of=START)),
    order.rank_in: lambda f: f.counts.select(order.rank_in("user_id")),
    order.exact_sum: lambda f: f.counts.agg(order.exact_sum(F.col("score"), digits=9)),
    history.may_repeat: lambda f: f.towers.select(history.may_repeat("seen_rule", F.col("score"))),
    metrics.discounted_gain: lambda f: f.sequences.select(metrics.discounted_gain(F.col("event_items"))),
    metrics.poisson_weight: lambda f: f.users.withColumn("replicate", F.lit(1)).select(metrics.poisson_weight(1)),
}


def name_of(function):
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def test_every_public_function_of_frames_and_columns_is_planned_here():
    found = set()
    for package in (recsys_spark.transforms, recsys_spark.evaluation):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, function in inspect.getmembers(import_module(module.name), inspect.isfunction):
                is_own = function.__module__ == module.name and not name.startswith("_")
                if is_own and function.__annotations__["return"] in ("DataFrame", "Column"):
                    found.add(name_of(function))
    assert sorted(found) == sorted(map(name_of, CASES))


def test_the_search_finds_each_kind_of_python_rows(tables):
    def keep(batches):
        yield from batches

    rows = tables("a string")
    assert marks(rows.select(F.udf(str)("a")))[0] == "BatchEvalPython"
    assert "ArrowEvalPython" in marks(rows.select(F.pandas_udf(lambda a: a, "string")("a")))
    assert "MapInArrow" in marks(rows.mapInArrow(keep, "a string"))
    assert "MapInPandas" in marks(rows.mapInPandas(keep, "a string"))
    assert "InPandas" in marks(rows.groupBy("a").applyInPandas(lambda group: group, "a string"))
    assert marks(rows.where("a = 'Python'")) == []


@pytest.mark.parametrize("function", CASES, ids=name_of)
def test_no_row_of_a_transform_goes_to_python(frames, function):
    assert marks(CASES[function](frames)) == []


@pytest.mark.parametrize(
    ("function", "rankings"),
    [
        (order.keep_best, 1), (blend.rank_blends, 1), (baselines.nearest_items, 1),
        (baselines.fill_lists, 2),
    ],
)  # fmt: skip
def test_ranking_drops_rows_before_it_shuffles_them(frames, function, rankings):
    physical = plan_of(CASES[function](frames)).partition("== Physical Plan ==")[2]
    steps = re.findall(r"WindowGroupLimit .*(Final|Partial)$|(Exchange) hashpartitioning", physical, re.MULTILINE)
    found = " ".join(limit or exchange for limit, exchange in steps)
    assert found.count("Final Exchange Partial") == rankings, "the plan is read from its end: a limit on either side"


def test_pairs_of_segments_and_items_are_counted_without_sorting_them(frames):
    physical = plan_of(CASES[rules.allow_items](frames)).partition("== Physical Plan ==")[2]
    assert "SortAggregate" not in physical and "HashAggregate" in physical


def test_ranking_without_a_limit_keeps_every_row(frames):
    assert "WindowGroupLimit" not in plan_of(CASES[order.rank_in](frames))
