"""One configuration tree: YAML files laid over each other, then `--set a.b=value`, then checked as a whole.

Every default stands once, in conf/base.yaml; `sections` says what may stand there, `load` reads it and explains
what does not fit.
"""

from recsys_spark.config.load import REQUIRED, load_config
from recsys_spark.config.sections import (
    Config,
    EmbedConfig,
    EvaluateConfig,
    ItemTextConfig,
    ModelConfig,
    RankConfig,
    ReportConfig,
    RunConfig,
    ScoreConfig,
    SequencesConfig,
    SplitConfig,
    TrackingConfig,
    TrainConfig,
)
from recsys_spark.config.sources import (
    EventsConfig,
    ItemsConfig,
    RulesConfig,
    RuleTableConfig,
    SourceConfig,
    TimestampConfig,
)
from recsys_spark.config.values import SeenRule

__all__ = [
    "REQUIRED",
    "Config",
    "EmbedConfig",
    "EvaluateConfig",
    "EventsConfig",
    "ItemTextConfig",
    "ItemsConfig",
    "ModelConfig",
    "RankConfig",
    "ReportConfig",
    "RuleTableConfig",
    "RulesConfig",
    "RunConfig",
    "ScoreConfig",
    "SeenRule",
    "SequencesConfig",
    "SourceConfig",
    "SplitConfig",
    "TimestampConfig",
    "TrackingConfig",
    "TrainConfig",
    "load_config",
]
