# Databricks notebook source
# MAGIC %md
# MAGIC # A walk through the tables
# MAGIC From raw events to a list for every user, table by table, in the order in which the jobs write them.
# MAGIC
# MAGIC | | events | catalogue |
# MAGIC |---|---|---|
# MAGIC | **ingest** | EVENTS, EVENTS_REJECTED | ITEMS, ITEMS_REJECTED, ITEM_INDEX |
# MAGIC | **prepare** | SEQUENCES | ITEM_TEXT |
# MAGIC | **learn** | MODELS → USER_EMBEDDINGS | → ITEM_EMBEDDINGS |
# MAGIC | **score, blend, rank** | CANDIDATES → BLENDS → RECOMMENDATIONS | |
# MAGIC | **judge** | METRICS, RUNS | |
# MAGIC
# MAGIC The notebook reads only. Run `jobs/pipeline.py` first; a table that is missing says which job writes it. On
# MAGIC Databricks, open it from the repository's folder; on a laptop, `python notebooks/walk_the_tables.py`.

# COMMAND ----------

# Where the tables are, whose results to look at, and one user (None: the first who has a list).
WAREHOUSE = "warehouse"
RUN_ID = "main"
USER_ID = None

# COMMAND ----------

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables import catalog
from recsys_spark.tables.contract import Table
from recsys_spark.tables.store import Store

if "spark" not in globals():  # a notebook host brings its own session
    from recsys_spark.show import find_jars
    from recsys_spark.tables.session import build_session

    quiet = {"spark.ui.showConsoleProgress": False, "spark.sql.shuffle.partitions": 8}
    spark = build_session("walk_the_tables", quiet, delta_jars=find_jars())

store = Store(spark, WAREHOUSE)


def look(table: Table, rows: DataFrame | None = None, num_rows: int = 5) -> None:
    """What a table is for, what its columns mean, and a few of its rows."""
    print(f"{table.name}, version {store.version(table)}: {table.meaning}")
    for column in table.columns:
        print(f"  {column.name:16} {column.sql_type:20} {column.meaning}")
    (store.read(table) if rows is None else rows).show(num_rows, truncate=48)


def of_run(table: Table) -> DataFrame:
    """The rows of a table that belong to the run."""
    return store.read(table).where(F.col("run_id") == RUN_ID)


# COMMAND ----------

# MAGIC %md
# MAGIC ## 1. Events
# MAGIC `ingest_events` reads the source through the column mapping of the configuration. Every row lands in EVENTS
# MAGIC or, with every reason and the row itself, in EVENTS_REJECTED: rows in = accepted + rejected, or the run
# MAGIC stops.

# COMMAND ----------

look(catalog.EVENTS)
events = store.read(catalog.EVENTS)
events.groupBy("event_type").agg(
    F.count("*").alias("events"), F.count_distinct("user_id").alias("users"), F.min("ts"), F.max("ts")
).show(truncate=False)

# COMMAND ----------

rejected = store.read(catalog.EVENTS_REJECTED)
rejected.select(F.explode("reasons").alias("reason")).groupBy("reason").count().orderBy(F.desc("count")).show(
    truncate=80
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 2. Items
# MAGIC `ingest_items` does the same for the catalogue and gives each item its number in ITEM_INDEX: once given, a
# MAGIC number is never changed or reused. `build_item_text` renders the template of the configuration and tokenises
# MAGIC it.

# COMMAND ----------

look(catalog.ITEMS)
look(catalog.ITEM_INDEX, num_rows=3)
texts = store.read(catalog.ITEM_TEXT)
look(catalog.ITEM_TEXT, texts.select("item_id", "item_idx", "text", "num_tokens", "token_ids"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3. Sequences
# MAGIC One row says what was known of a user at one moment (the last events before `as_of`) and, for training and
# MAGIC validation, what the user chose in the window after it. Test rows have no targets: what comes then is for
# MAGIC METRICS only.

# COMMAND ----------

sequences = store.read(catalog.SEQUENCES)
look(catalog.SEQUENCES, sequences.select("user_id", "as_of", "split", "num_events", "event_items", "num_targets"))
sequences.groupBy("split", "as_of").agg(
    F.count("*").alias("rows"), F.avg("num_events").alias("mean_events"), F.avg("num_targets").alias("mean_targets")
).orderBy("as_of").show(truncate=False)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 4. The model and its vectors
# MAGIC `train` writes one row: which MLflow run made which registered version. The vectors of items and users are
# MAGIC unit vectors on a grid on which dot products are exact: the same lists come out whatever the partitions and
# MAGIC cores.

# COMMAND ----------

model = of_run(catalog.MODELS)
look(catalog.MODELS, model)
version = model.select("model_version")
item_vectors = store.read(catalog.ITEM_EMBEDDINGS).join(version, on=["model_version"], how="left_semi")
user_vectors = store.read(catalog.USER_EMBEDDINGS).join(version, on=["model_version"], how="left_semi")
look(catalog.ITEM_EMBEDDINGS, item_vectors, num_rows=3)
look(catalog.USER_EMBEDDINGS, user_vectors, num_rows=3)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 5. Candidates and blend
# MAGIC `score` compares every user with every item and keeps the exact top-K, once for any item (`keep`) and once
# MAGIC for items the user never had (`drop`). `choose_blend` tries weights of this score beside the user's own
# MAGIC decayed counts on the validation window; weight 0 is plain counting.

# COMMAND ----------

look(catalog.CANDIDATES, of_run(catalog.CANDIDATES).orderBy("split", "seen_rule", "user_id"))
of_run(catalog.BLENDS).orderBy("tower_weight").show(truncate=False)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 6. One user's list
# MAGIC RECOMMENDATIONS is what the platform is for. Here is one user: the last events, then what `rank` put first
# MAGIC and why.

# COMMAND ----------

from recsys_spark.report.samples import recent_events, with_text

lists = of_run(catalog.RECOMMENDATIONS)
look(catalog.RECOMMENDATIONS, lists.orderBy("user_id", "seen_rule", "rank"), num_rows=3)
listed = lists if USER_ID is None else lists.where(F.col("user_id") == USER_ID)
user = listed.orderBy("user_id").first()
print(f"user {user['user_id']}, as of {user['as_of']}")
theirs = events.where(F.col("user_id") == user["user_id"])
recent_events(theirs, texts, cut_off=user["as_of"], num_events=10).orderBy("rank").select(
    "day", "event_type", "text"
).show(truncate=60)

# COMMAND ----------

lists.where(F.col("user_id") == user["user_id"]).transform(with_text, texts).orderBy(
    F.desc("seen_rule"), "rank"
).select("seen_rule", "rank", F.round("score", 4).alias("score"), "text", "sources", "reason").show(40, truncate=48)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 7. Is it any good?
# MAGIC METRICS holds the recommendations, the model alone and every baseline, on the same users of the test window,
# MAGIC over the whole catalogue, with 95 % intervals. RUNS says what each stage read, wrote and cost.

# COMMAND ----------

figures = of_run(catalog.METRICS).withColumn("figure", F.concat_ws("@", "metric", "k"))
figures.groupBy("slice", "method").pivot("figure").agg(F.round(F.first("value"), 4)).orderBy("slice", "method").show(
    truncate=False
)

# COMMAND ----------

of_run(catalog.RUNS).orderBy("finished_at").select("stage", "finished_at", "seconds", "peak_mib", "notes").show(
    50, truncate=60
)
