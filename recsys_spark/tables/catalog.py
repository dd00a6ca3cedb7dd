"""The data dictionary: every table of the platform, declared once."""

from __future__ import annotations

from typing import Final

from recsys_spark import columns as c
from recsys_spark.tables.contract import Column, Table

_USER_ID = Column(c.USER_ID, "string", "the user, as the source names them")
_ITEM_ID = Column(c.ITEM_ID, "string", "the item, as the source names it")
_ITEM_IDX = Column(c.ITEM_IDX, "int", "dense number of the item: 0, 1, 2, …; once given, never changed or reused")
_BATCH = Column(c.BATCH, "string", "the delivery the row came with")
_RUN_ID = Column(c.RUN_ID, "string", "the run the row belongs to (`run.id`)")
_MODEL_VERSION = Column(c.MODEL_VERSION, "string", "the registered model version")
_AS_OF = Column(c.AS_OF, "timestamp", "the cut-off: only events before it were known (UTC)")
_SPLIT = Column(c.SPLIT, "string", "train, validation or test")
_SEEN_RULE = Column(
    c.SEEN_RULE,
    "string",
    "keep: any item; drop: only items the user had not had before; drop for N days: not in the N days before",
)
_SEGMENT = Column(c.SEGMENT, "bigint", "users whom the rules' conditions do not tell apart, as of one cut-off")
_RULES_HASH = Column(c.RULES_HASH, "string", "hash of the configuration's rules (but pins) that the row was made under")
_RANK = Column(c.RANK, "int", "1 is the best; score descending, then item_id ascending, pinned items aside")
_EMBEDDING = Column(c.EMBEDDING, "array<float>", "unit vector, on the grid that makes dot products exact")
_INPUT_HASH = Column(c.INPUT_HASH, "string", "hash of what the vector was computed from: another hash, another vector")

_REJECTED_COLUMNS = (
    Column(c.SOURCE, "string", "the file the row was read from"),
    Column(c.OFFSET, "bigint", "tells the rows of one file apart and orders them"),
    Column(c.RAW, "string", "the whole row as JSON, as it was read"),
    Column(c.REASONS, "array<string>", "every reason it was refused for"),
    Column(c.REJECTED_AT, "timestamp", "when it was refused (UTC)"),
    _BATCH,
)

EVENTS: Final = Table(
    name="EVENTS",
    meaning="One behaviour: a user did something with an item.",
    columns=(
        Column(c.EVENT_ID, "string", "the source's own id, or a hash of what the mapping reads of the row"),
        _USER_ID,
        _ITEM_ID,
        Column(c.EVENT_TYPE, "string", "view, cart, purchase, rating, search, …"),
        Column(c.TS, "timestamp", "when it happened (UTC)"),
        Column(c.VALUE, "double", "price paid, rating given, … or null"),
        Column(c.CONTEXT, "string", "anything else the source says of it"),
        _BATCH,
    ),
    key=(c.EVENT_ID,),
    written_by="jobs/ingest_events.py",
    slice_by=(c.BATCH,),
    partition_by=(c.BATCH,),
    checks={
        "user_id, item_id, event_type and ts are given": "user_id <> '' AND item_id <> '' AND event_type <> ''"
        " AND ts IS NOT NULL"
    },
)

EVENTS_REJECTED: Final = Table(
    name="EVENTS_REJECTED",
    meaning="One row of an event source that broke the contract.",
    columns=_REJECTED_COLUMNS,
    key=(c.SOURCE, c.OFFSET),
    written_by="jobs/ingest_events.py",
    slice_by=(c.BATCH,),
    partition_by=(c.BATCH,),
    checks={"a reason is given": "size(reasons) > 0"},
)

ITEMS: Final = Table(
    name="ITEMS",
    meaning="One product of the catalogue.",
    columns=(
        _ITEM_ID,
        Column(c.TITLE, "string", "its name"),
        Column(c.DESCRIPTION, "string", "its long text"),
        Column(c.BRAND, "string", "its brand"),
        Column(c.CATEGORY, "string", "its category, the path joined with ' > '"),
        Column(c.PRICE, "double", "its price, in the source's currency"),
        Column(c.ATTRIBUTES, "map<string,string>", "everything else that was mapped"),
        Column(c.AVAILABLE_FROM, "timestamp", "first moment it can be sold (UTC), or null"),
        Column(c.AVAILABLE_TO, "timestamp", "last moment it can be sold (UTC), or null"),
    ),
    key=(c.ITEM_ID,),
    written_by="jobs/ingest_items.py",
    checks={"item_id is given": "item_id <> ''"},
)

ITEMS_REJECTED: Final = Table(
    name="ITEMS_REJECTED",
    meaning="One row of an item source that broke the contract.",
    columns=_REJECTED_COLUMNS[:-1],
    key=(c.SOURCE, c.OFFSET),
    written_by="jobs/ingest_items.py",
    checks={"a reason is given": "size(reasons) > 0"},
)

ITEM_INDEX: Final = Table(
    name="ITEM_INDEX",
    meaning="The dense number of each item that was ever in the catalogue. Append-only.",
    columns=(_ITEM_ID, _ITEM_IDX),
    key=(c.ITEM_ID,),
    written_by="jobs/ingest_items.py",
    checks={"item_idx is not negative": "item_idx >= 0"},
    append_only=True,
)

ITEM_TEXT: Final = Table(
    name="ITEM_TEXT",
    meaning="One item's text and its tokens.",
    columns=(
        _ITEM_ID,
        _ITEM_IDX,
        Column(c.TEXT, "string", "the rendered, cleaned text; empty when the catalogue says nothing"),
        Column(c.TEXT_HASH, "string", "SHA-256 of the text"),
        Column(c.TOKEN_IDS, "array<int>", "token ids, padded with 0 to `item_text.max_tokens`"),
        Column(c.NUM_TOKENS, "int", "how many of them are real, special tokens included"),
        Column(c.TOKENIZER, "string", "fingerprint of the tokenizer and its width"),
    ),
    key=(c.ITEM_ID,),
    written_by="jobs/build_item_text.py",
    checks={"tokens fit the array": "num_tokens BETWEEN 1 AND size(token_ids)"},
)

SEQUENCES: Final = Table(
    name="SEQUENCES",
    meaning="One user as of one cut-off: the last events before it and what came in the window after it.",
    columns=(
        Column(c.ROW_ID, "bigint", "hash of user_id, as_of and split: what the feed's checksum adds up"),
        _USER_ID,
        _AS_OF,
        _SPLIT,
        Column(c.EVENT_ITEMS, "array<int>", "item_idx of the last L events, oldest first, padded with -1 at the end"),
        Column(
            c.EVENT_TYPES,
            "array<int>",
            "code of each event's type: its place in `sequences.event_types` plus 1, 0 for others",
        ),
        Column(c.EVENT_HOURS, "array<int>", "time gap of each event: whole hours from it to the cut-off"),
        Column(c.NUM_EVENTS, "int", "how many of the L events are real"),
        Column(
            c.TARGET_ITEMS,
            "array<int>",
            "item_idx of distinct items the user chose in the window after, padded with -1; none for test",
        ),
        Column(c.NUM_TARGETS, "int", "how many of them are real"),
    ),
    key=(c.USER_ID, c.AS_OF, c.SPLIT),
    written_by="jobs/build_sequences.py",
    partition_by=(c.SPLIT,),
    checks={
        "at least one event": "num_events BETWEEN 1 AND size(event_items)",
        "arrays of one width": "size(event_items) = size(event_types) AND size(event_items) = size(event_hours)",
        "events lie before the cut-off": "forall(event_hours, h -> h >= 0)",
        "test rows know no future": "split <> 'test' OR num_targets = 0",
    },
)

MODELS: Final = Table(
    name="MODELS",
    meaning="One trained model of a run.",
    columns=(
        _RUN_ID,
        Column(c.MODEL_NAME, "string", "its name in the registry"),
        _MODEL_VERSION,
        Column(c.MODEL_URI, "string", "where its files are"),
        Column(c.TRACKING_RUN, "string", "the MLflow run that made it"),
        Column(c.ALPHA, "double", "scale of the cosine: score = alpha * cosine + offset_b"),
        Column(c.OFFSET_B, "double", "offset that makes exp(score) a share of the catalogue's probability"),
        Column(c.VALIDATION_NDCG, "double", "NDCG@`train.validation_k` on the validation window, whole catalogue"),
        Column(c.CHECKSUM, "string", "SHA-256 of the model's manifest, which holds those of its files", added=True),
    ),
    key=(c.RUN_ID,),
    written_by="jobs/train.py",
    slice_by=(c.RUN_ID,),
    partition_by=(c.RUN_ID,),
)

ITEM_EMBEDDINGS: Final = Table(
    name="ITEM_EMBEDDINGS",
    meaning="One item's vector by one model version.",
    columns=(
        _ITEM_ID,
        _ITEM_IDX,
        _MODEL_VERSION,
        _EMBEDDING,
        Column(c.TEXT_EMBEDDING, "array<float>", "what the text alone says: a unit vector on the same grid"),
        Column(c.BEHAVIOUR_EMBEDDING, "array<float>", "what the id alone has learnt; zeros for an item too rare to"),
        _INPUT_HASH,
        Column(c.BACK_END, "string", "how the text was encoded: a name of `embed.back_end`"),
    ),
    key=(c.ITEM_ID, c.MODEL_VERSION),
    written_by="jobs/embed_items.py",
    slice_by=(c.MODEL_VERSION,),
    partition_by=(c.MODEL_VERSION,),
    changes_by_row=True,
)

USER_EMBEDDINGS: Final = Table(
    name="USER_EMBEDDINGS",
    meaning="One user's vector as of one cut-off, by one model version.",
    columns=(_USER_ID, _AS_OF, _SPLIT, _MODEL_VERSION, _EMBEDDING, _INPUT_HASH),
    key=(c.USER_ID, c.AS_OF, c.SPLIT, c.MODEL_VERSION),
    written_by="jobs/embed_users.py",
    slice_by=(c.MODEL_VERSION,),
    partition_by=(c.MODEL_VERSION, c.SPLIT),
    changes_by_row=True,
)

USER_RULES: Final = Table(
    name="USER_RULES",
    meaning="What the rules have to say of one user of one split.",
    columns=(
        _RUN_ID,
        _SPLIT,
        _USER_ID,
        _SEGMENT,
        Column(c.BLOCKED, "array<int>", "item_idx of the items that are never listed for the user"),
        _RULES_HASH,
    ),
    key=(c.RUN_ID, c.SPLIT, c.USER_ID),
    written_by="jobs/apply_rules.py",
    slice_by=(c.RUN_ID,),
    partition_by=(c.RUN_ID,),
)

SEGMENTS: Final = Table(
    name="SEGMENTS",
    meaning="The items that may be listed for one segment of users.",
    columns=(
        _RUN_ID,
        _SEGMENT,
        _AS_OF,
        Column(c.USER_FACTS, "string", "what the segment's users have in common, as JSON: the columns conditions name"),
        Column(
            c.ALLOWED,
            "array<struct<word:int,bits:bigint>>",
            "in any order: bit i (0 is the lowest) of word w is set when item_idx 64 w + i is allowed",
        ),
        Column(c.BARRED_BY, "map<string,bigint>", "condition -> items it is not true for"),
        _RULES_HASH,
    ),
    key=(c.RUN_ID, c.SEGMENT),
    written_by="jobs/apply_rules.py",
    slice_by=(c.RUN_ID,),
    partition_by=(c.RUN_ID,),
)

ITEM_GROUPS: Final = Table(
    name="ITEM_GROUPS",
    meaning="What the caps count one item under; no rows without caps.",
    columns=(
        _RUN_ID,
        _ITEM_ID,
        _ITEM_IDX,
        Column(c.GROUPS, "array<bigint>", "for each of `rules.caps` a hash of the item's value, null for none"),
        _RULES_HASH,
    ),
    key=(c.RUN_ID, c.ITEM_ID),
    written_by="jobs/apply_rules.py",
    slice_by=(c.RUN_ID,),
    partition_by=(c.RUN_ID,),
)

CANDIDATES: Final = Table(
    name="CANDIDATES",
    meaning="The two-tower model's exact top-K for one user, one split and one seen rule.",
    columns=(
        _RUN_ID,
        _SPLIT,
        _SEEN_RULE,
        _USER_ID,
        Column(c.ITEMS, "array<int>", "item_idx, best first"),
        Column(c.SCORES, "array<double>", "their alpha * cosine + offset_b: logs of shares of the probability"),
        Column(c.SHORTFALL, "string", "why there are fewer than `score.top_k`, with numbers; null for a full list"),
        _MODEL_VERSION,
        _RULES_HASH,
    ),
    key=(c.RUN_ID, c.SPLIT, c.SEEN_RULE, c.USER_ID),
    written_by="jobs/score.py",
    slice_by=(c.RUN_ID,),
    partition_by=(c.RUN_ID,),
    checks={
        "a score for every item": "size(items) = size(scores)",
        "scores are numbers": "NOT isnan(array_max(scores))",
    },
)

SIMILAR_ITEMS: Final = Table(
    name="SIMILAR_ITEMS",
    meaning="The exact most similar other items of one item, by one model version and one kind of vector.",
    columns=(
        _MODEL_VERSION,
        Column(c.KIND, "string", "both (as the model sees items), text or behaviour"),
        _ITEM_ID,
        Column(c.ITEMS, "array<int>", "item_idx, most similar first"),
        Column(c.SCORES, "array<double>", "their cosines, above 0"),
    ),
    key=(c.MODEL_VERSION, c.KIND, c.ITEM_ID),
    written_by="jobs/similar_items.py",
    slice_by=(c.MODEL_VERSION,),
    partition_by=(c.MODEL_VERSION,),
    checks={"a score for every item": "size(items) = size(scores)"},
)

SIMILAR_USERS: Final = Table(
    name="SIMILAR_USERS",
    meaning="The exact most similar other users of one user as of the test cut-off, by one model version.",
    columns=(
        _MODEL_VERSION,
        _USER_ID,
        Column(c.USERS, "array<string>", "user_id, most similar first; equal ones by user_id ascending"),
        Column(c.SCORES, "array<double>", "their cosines, above 0"),
    ),
    key=(c.MODEL_VERSION, c.USER_ID),
    written_by="jobs/similar_users.py",
    slice_by=(c.MODEL_VERSION,),
    partition_by=(c.MODEL_VERSION,),
    checks={"a score for every user": "size(users) = size(scores)"},
)

BLENDS: Final = Table(
    name="BLENDS",
    meaning="How well one blend of counting and two towers ranked the validation window.",
    columns=(
        _RUN_ID,
        Column(c.TOWER_WEIGHT, "double", "weight of the two-tower score; the user's own history has weight 1"),
        Column(c.SCORE, "double", "mean NDCG@10 on the validation window"),
        Column(c.NUM_USERS, "bigint", "users it was measured on"),
    ),
    key=(c.RUN_ID, c.TOWER_WEIGHT),
    written_by="jobs/choose_blend.py",
    slice_by=(c.RUN_ID,),
    partition_by=(c.RUN_ID,),
)

RECOMMENDATIONS: Final = Table(
    name="RECOMMENDATIONS",
    meaning="One place of one user's ranked list: what users of the platform read.",
    columns=(
        _RUN_ID,
        _SEEN_RULE,
        _USER_ID,
        _RANK,
        _ITEM_ID,
        Column(c.SCORE, "double", "the blended score the list is ordered by; null for a pinned item without one"),
        Column(c.SOURCES, "array<string>", "who proposed the item: towers, history, pinned"),
        Column(c.REASON, "string", "why, in words a person can read"),
        _AS_OF,
        _MODEL_VERSION,
        Column(c.MADE_FROM, "string", "table versions it was made from, as JSON"),
    ),
    key=(c.RUN_ID, c.SEEN_RULE, c.USER_ID, c.ITEM_ID),
    written_by="jobs/rank.py",
    slice_by=(c.RUN_ID,),
    partition_by=(c.RUN_ID,),
    checks={"ranks start at 1": "rank >= 1", "a source is given": "size(sources) > 0"},
)

METRICS: Final = Table(
    name="METRICS",
    meaning="One figure of one method on one slice of the test window.",
    columns=(
        _RUN_ID,
        _SPLIT,
        Column(c.SLICE, "string", "all: every item bought; new: only items not bought before"),
        Column(c.METHOD, "string", "recommendations, two_tower, popular, personal, item_knn"),
        Column(c.METRIC, "string", "ndcg, recall, precision, mrr, coverage"),
        Column(c.K, "int", "length of the list"),
        Column(c.VALUE, "double", "mean over users (coverage: share of the catalogue shown)"),
        Column(c.LOWER, "double", "2.5 % bound of the bootstrap over users, or null"),
        Column(c.UPPER, "double", "97.5 % bound of the bootstrap over users, or null"),
        Column(c.NUM_USERS, "bigint", "users it was measured on"),
    ),
    key=(c.RUN_ID, c.SPLIT, c.SLICE, c.METHOD, c.METRIC, c.K),
    written_by="jobs/evaluate.py",
    slice_by=(c.RUN_ID,),
    partition_by=(c.RUN_ID,),
    checks={"a share": "value BETWEEN 0 AND 1"},
)

RUNS: Final = Table(
    name="RUNS",
    meaning="One finished stage of one run: what it read, what it wrote, what it cost. Append-only.",
    columns=(
        _RUN_ID,
        Column(c.STAGE, "string", "name of the stage"),
        Column(c.FINISHED_AT, "timestamp", "when it ended (UTC)"),
        Column(c.FINGERPRINT, "string", "hash of its inputs, configuration and code: equal means nothing to do"),
        Column(c.CONFIG, "string", "the configuration it ran with, as JSON"),
        Column(c.CODE_HASH, "string", "hash of its job and of every module of the package it reaches"),
        Column(c.INPUTS, "map<string,bigint>", "table versions it read"),
        Column(c.OUTPUTS, "map<string,bigint>", "table versions it wrote"),
        Column(c.ROWS_IN, "map<string,bigint>", "rows read per table or source"),
        Column(c.ROWS_OUT, "map<string,bigint>", "rows written per table"),
        Column(c.NOTES, "array<string>", "what a person should know of this run of the stage"),
        Column(c.SECONDS, "double", "wall-clock seconds"),
        Column(c.PEAK_MIB, "bigint", "peak resident memory of the driver's whole process tree, MiB"),
        Column(c.TABLE_IDS, "map<string,string>", "Delta's id of each table it read or wrote", added=True),
    ),
    key=(c.RUN_ID, c.STAGE, c.FINISHED_AT),
    written_by="every job",
    append_only=True,
)

TABLES: Final = (
    EVENTS, EVENTS_REJECTED, ITEMS, ITEMS_REJECTED, ITEM_INDEX, ITEM_TEXT, SEQUENCES, MODELS, ITEM_EMBEDDINGS,
    USER_EMBEDDINGS, USER_RULES, SEGMENTS, ITEM_GROUPS, CANDIDATES, SIMILAR_ITEMS, SIMILAR_USERS, BLENDS,
    RECOMMENDATIONS, METRICS, RUNS,
)  # fmt: skip
