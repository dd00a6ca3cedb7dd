"""Every column name of the platform, once. A column means the same thing in every table that has it."""

from typing import Final

# who, what, when
USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
ITEM_IDX: Final = "item_idx"
EVENT_ID: Final = "event_id"
EVENT_TYPE: Final = "event_type"
TS: Final = "ts"
VALUE: Final = "value"
CONTEXT: Final = "context"
BATCH: Final = "batch"

# rows that were refused
SOURCE: Final = "source"
OFFSET: Final = "offset"
RAW: Final = "raw"
REASONS: Final = "reasons"
REJECTED_AT: Final = "rejected_at"

# the catalogue
TITLE: Final = "title"
DESCRIPTION: Final = "description"
BRAND: Final = "brand"
CATEGORY: Final = "category"
PRICE: Final = "price"
ATTRIBUTES: Final = "attributes"
AVAILABLE_FROM: Final = "available_from"
AVAILABLE_TO: Final = "available_to"
TEXT: Final = "text"
TEXT_HASH: Final = "text_hash"
TOKEN_IDS: Final = "token_ids"
NUM_TOKENS: Final = "num_tokens"
TOKENIZER: Final = "tokenizer"

# sequences
ROW_ID: Final = "row_id"
AS_OF: Final = "as_of"
SPLIT: Final = "split"
EVENT_ITEMS: Final = "event_items"
EVENT_TYPES: Final = "event_types"
EVENT_HOURS: Final = "event_hours"
NUM_EVENTS: Final = "num_events"
TARGET_ITEMS: Final = "target_items"
NUM_TARGETS: Final = "num_targets"

# models and vectors
MODEL_NAME: Final = "model_name"
MODEL_VERSION: Final = "model_version"
MODEL_URI: Final = "model_uri"
TRACKING_RUN: Final = "tracking_run"
EMBEDDING: Final = "embedding"
INPUT_HASH: Final = "input_hash"
BACK_END: Final = "back_end"
ALPHA: Final = "alpha"
OFFSET_B: Final = "offset_b"
VALIDATION_NDCG: Final = "validation_ndcg"

# lists
RUN_ID: Final = "run_id"
SEEN_RULE: Final = "seen_rule"
SCORE: Final = "score"
ITEMS: Final = "items"
SCORES: Final = "scores"
RANK: Final = "rank"
SOURCES: Final = "sources"
REASON: Final = "reason"
MADE_FROM: Final = "made_from"
TOWER_WEIGHT: Final = "tower_weight"

# figures
METHOD: Final = "method"
SLICE: Final = "slice"
METRIC: Final = "metric"
K: Final = "k"
LOWER: Final = "lower"
UPPER: Final = "upper"
NUM_USERS: Final = "num_users"

# runs
STAGE: Final = "stage"
FINGERPRINT: Final = "fingerprint"
CONFIG: Final = "config"
CODE_HASH: Final = "code_hash"
INPUTS: Final = "inputs"
OUTPUTS: Final = "outputs"
ROWS_IN: Final = "rows_in"
ROWS_OUT: Final = "rows_out"
NOTES: Final = "notes"
SECONDS: Final = "seconds"
PEAK_MIB: Final = "peak_mib"
FINISHED_AT: Final = "finished_at"
