"""Configurations for unit tests: conf/base.yaml, a small shop, and what a test adds."""

import pytest

from recsys_spark.config import load_config
from recsys_spark.errors import RecsysError

DATASET = """
events:
  source: {format: csv, path: "{landing}/events.csv"}
  columns: {who: user_id, what: item_id, when: ts}
  event_type: purchase
items:
  source: {format: csv, path: "{landing}/items.csv"}
  columns: {sku: item_id, name: title, colour: attributes.colour}
split:
  test_start: 2017-12-04
"""


@pytest.fixture
def load(tmp_path):
    """Loads conf/base.yaml, the data set above, further YAML texts, then settings."""

    def load_all(*settings, texts=(), dataset=DATASET, base=("conf/base.yaml",)):
        files = [*base]
        for number, text in enumerate([dataset, *texts]):
            file = tmp_path / f"{number}.yaml"
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            files.append(str(file))
        return load_config(files, settings)

    return load_all


@pytest.fixture
def problems(load):
    """The messages of a configuration that does not fit, one a line, without the common beginning."""

    def messages(*settings, **layers):
        with pytest.raises(RecsysError) as raised:
            load(*settings, **layers)
        return [str(each).removeprefix("configuration, ") for each in raised.value.problems]

    return messages
