"""apply_rules, score and rank together: lists keep to every rule, and tables made under other rules are refused."""

import shutil

import pytest
from pyspark.sql import functions as F

from jobs import apply_rules, choose_blend, rank, score, similar_items, similar_users
from jobs.pipeline import FLOW
from recsys_spark.errors import RecsysError
from recsys_spark.runner import run_stage
from recsys_spark.tables import catalog as t
from recsys_spark.tables.store import Store
from tests.small_warehouse import TEST_START, config_of, write_small_warehouse

pytestmark = pytest.mark.spark

SOURCES = {
    "stock": "sku,kind\na,fruit\nb,fruit\nc,dairy\nd,dairy\ne,wine\nf,\n",
    "people": "customer,age\nu1,12\nu2,30\n",
    "blocked": "customer,sku\nu1,c\nu2,c\n",
    "pinned": "sku,place\nf,2\n",
}
CONDITIONS = "rules.conditions={grown_ups: \"item.kind IS DISTINCT FROM 'wine' OR try_cast(user.age AS int) >= 18\"}"
CAPS = "rules.caps={item.kind: 1}"


class World:
    """A warehouse with vectors of six items and two users, and the stages under the rules of SOURCES."""

    def __init__(self, spark, root, sources):
        self.spark, self.store, self.sources = spark, Store(spark, str(root)), sources

    def run(self, stage, *settings, force=False):
        return run_stage(stage, self.spark, config_of(self.store.root, *self.rules(), *settings), force=force)

    def rules(self):
        def table(name, columns):
            return f"{{source: {{format: csv, path: {self.sources}/{name}.csv}}, columns: {{{columns}}}}}"

        return (
            CONDITIONS, CAPS, "score.top_k=6",
            f"rules.item_tables.stock={table('stock', 'sku: item_id, kind: kind')}",
            f"rules.user_tables.people={table('people', 'customer: user_id, age: age')}",
            f"rules.blocked={table('blocked', 'customer: user_id, sku: item_id')}",
            f"rules.pinned={table('pinned', 'sku: item_id, place: position')}",
        )  # fmt: skip


@pytest.fixture(scope="module")
def template(spark, tmp_path_factory):
    """All three stages done. By the towers alone u1 likes a most, then b, c, d, e, f; u2 the other way round."""
    folder = tmp_path_factory.mktemp("rule_jobs")
    write_small_warehouse(spark, str(folder / "warehouse"))
    world = World(spark, folder / "warehouse", folder)
    for name, text in SOURCES.items():
        (folder / f"{name}.csv").write_text(text)
    items = [(item, n, "1", [1 - n / 8, 0.0], [], [], "h", "float32") for n, item in enumerate("abcdef")]
    users = [(user, TEST_START, "test", "1", [sign, 0.0], "h") for user, sign in (("u1", 1.0), ("u2", -1.0))]
    for table, rows in ((t.ITEM_EMBEDDINGS, items), (t.USER_EMBEDDINGS, users)):
        world.store.replace(table, spark.createDataFrame(rows, table.schema), {"model_version": "1"})
    for stage in (apply_rules.STAGE, score.STAGE, rank.STAGE):
        world.run(stage)
    return world


@pytest.fixture
def world(spark, template, tmp_path):
    shutil.copytree(template.store.root, tmp_path / "warehouse")
    return World(spark, tmp_path / "warehouse", template.sources)


def test_lists_keep_to_conditions_caps_and_block_lists_and_a_pinned_item_has_its_place(template):
    """u1 had a, b and e; e is wine, of which u1 is too young. c is blocked, b is the second fruit, f has no kind."""
    ids = dict(enumerate("abcdef"))
    candidates = template.store.read(t.CANDIDATES).where("split = 'test'").collect()
    assert {(row.user_id, row.seen_rule): "".join(ids[n] for n in row["items"]) for row in candidates} == {
        ("u1", "keep"): "adf", ("u1", "drop"): "df", ("u2", "keep"): "fedb", ("u2", "drop"): "fedb",
    }  # fmt: skip
    short = next(row.shortfall for row in candidates if (row.user_id, row.seen_rule) == ("u1", "keep"))
    assert "1 barred (grown_ups 1)" in short and "1 blocked" in short and "1 left out by caps" in short
    lists = template.store.read(t.RECOMMENDATIONS).where("run_id = 'main'").groupBy("user_id", "seen_rule")
    ranked = lists.agg(F.sort_array(F.collect_list(F.struct("rank", "item_id"))).alias("places")).collect()
    assert {(row.user_id, row.seen_rule): "".join(item for _, item in row.places) for row in ranked} == {
        ("u1", "keep"): "afd", ("u1", "drop"): "df", ("u2", "keep"): "efdb", ("u2", "drop"): "efdb",
    }  # fmt: skip
    pinned = template.store.read(t.RECOMMENDATIONS).where("array_contains(sources, 'pinned')").collect()
    assert {(row.item_id, row["rank"]) for row in pinned} == {("f", 2)}
    assert len(pinned) == 4


OTHER_RULES = {
    "another cap": "rules.caps={item.kind: null, item.price: 1}",
    "another condition": "rules.conditions={grown_ups: item.kind <> 'wine'}",
    "no block list": "rules.blocked=null",
}


@pytest.mark.parametrize("other", OTHER_RULES)
def test_the_stages_after_stop_when_the_tables_were_made_under_other_rules(template, other):
    where = r"wanted rows made under the rules of the configuration; .* Run jobs/apply_rules\.py again with the same"
    with pytest.raises(RecsysError, match=f"table USER_RULES: {where}"):
        template.run(score.STAGE, OTHER_RULES[other])
    with pytest.raises(RecsysError, match=f"table ITEM_GROUPS: {where}"):
        template.run(rank.STAGE, OTHER_RULES[other])
    with pytest.raises(RecsysError, match=r"table CANDIDATES: .* Run jobs/score\.py again with the same"):
        template.run(choose_blend.STAGE, OTHER_RULES[other])


def test_rank_stops_when_rules_were_applied_that_the_candidates_do_not_know(world):
    world.run(apply_rules.STAGE, OTHER_RULES["another cap"])
    with pytest.raises(RecsysError, match=r"table CANDIDATES: .* Run jobs/score\.py again with the same"):
        world.run(rank.STAGE, OTHER_RULES["another cap"])
    world.run(apply_rules.STAGE, "rules.caps=null")
    with pytest.raises(RecsysError, match=r"table ITEM_GROUPS: .*found none\. Run jobs/apply_rules\.py with the same"):
        world.run(rank.STAGE)


def test_candidates_that_end_before_the_final_lists_do_are_told_of(world):
    told = "4 lists of candidates end at score.top_k, before rank.list_size: raise score.top_k"
    assert told not in world.run(rank.STAGE, "rank.list_size=21").record["notes"]
    world.run(score.STAGE, "score.top_k=2")
    assert told in world.run(rank.STAGE).record["notes"]
    assert told not in world.run(rank.STAGE, "rank.list_size=2", "evaluate.ks=[2]").record["notes"]


NO_RULES = [f"rules.{name}=null" for name in ("conditions", "caps", "blocked", "pinned")]


def test_a_catalogue_smaller_than_the_lists_is_told_of_once_and_stops_nothing(world):
    """The defaults: 100 candidates, 50 similar items and users; there are six items and two users."""
    settings = [*NO_RULES, "score.top_k=100", "score.checked_share=1"]
    world.run(apply_rules.STAGE, *settings)
    scored = world.run(score.STAGE, *settings)
    assert scored.record["notes"] == ["4 lists have fewer than 100 items: CANDIDATES.shortfall says why"]
    reasons = world.store.read(t.CANDIDATES).where("user_id = 'u2' AND seen_rule = 'keep'").collect()
    assert [row.shortfall for row in reasons] == ["6 of 100: of 6 items all are listed"]
    alike = world.run(similar_items.STAGE, *settings)
    assert alike.record["notes"] == ["similar.top_k = 50, but no list has more than 5: there are no others"]
    users = world.run(similar_users.STAGE, *settings)
    assert users.record["notes"] == ["similar.top_users = 50, but no list has more than 1: there are no others"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["score.top_k=6", "score.worker_mib=500"], r"score\.user_block: .* at 128 dimensions and top_k = 6; found"),
        (["similar.top_k=9", "score.worker_mib=560", "score.user_block=1"], r"top_k = \d; found 1 users, .* MiB"),
        (["rank.list_size=1", "evaluate.ks=[1]"], r"rules\.pinned: wanted positions from 1 to 1 \(rank\.list_size\)"),
        (["rules.conditions={typo: item.colour = 'red'}"], r"rules\.conditions\.typo"),
    ],
)
def test_what_stops_later_stages_stops_before_the_training(template, settings, message):
    flow = [stage.name for stage in FLOW]
    assert flow.index("apply_rules") < flow.index("train")
    with pytest.raises(RecsysError, match=message):
        template.run(apply_rules.STAGE, *settings, force=True)


def test_other_pins_or_more_segments_need_no_table_again(world):
    assert not world.run(rank.STAGE, "rules.pinned=null").skipped
    assert world.run(score.STAGE, "rules.max_segments=9").skipped


def test_conditions_that_tell_too_many_kinds_of_users_apart_are_refused(template):
    with pytest.raises(RecsysError, match=r"at most 1 kinds of users apart \(rules\.max_segments\); found 2\. Round"):
        template.run(apply_rules.STAGE, "rules.max_segments=1")
