"""A marketplace of 24 users and 60 products as files, the way a user would bring them."""

from __future__ import annotations

import gzip
import json
import random
from datetime import datetime, timedelta
from pathlib import Path

KINDS = ("milk", "bread", "apple", "soap", "wine", "cheese")


def write_world(folder: Path) -> Path:
    """Write orders.csv.gz, catalogue.jsonl and world.yaml below `folder`; returns the YAML file.

    Users like two kinds of products each. Two order lines are broken, one names an unknown product, one product has
    no text, one user comes only after the test window began.
    """
    rng = random.Random(5)
    folder.mkdir(parents=True, exist_ok=True)
    products = [{"sku": f"p{n:03d}", "name": f"{KINDS[n % 6]} number {n}", "group": KINDS[n % 6]} for n in range(59)]
    products.append({"sku": "p059", "name": "", "group": None})
    lines = ["customer,sku,ordered_at,paid"]
    start = datetime(2020, 1, 1)
    for user in range(24):
        liked = [product["sku"] for product in products if product["group"] in (KINDS[user % 6], KINDS[(user + 1) % 6])]
        for _ in range(60):
            when = start + timedelta(hours=rng.randrange(24 * 180))
            lines.append(f"u{user:02d},{rng.choice(liked)},{when:%Y-%m-%d %H:%M:%S},{rng.randrange(100) / 10}")
    lines += [
        "u00,p001,not a time,1.0",
        ",p002,2020-02-01 10:00:00,1.0",
        "u01,p999,2020-02-01 10:00:00,1.0",
        "late,p003,2020-06-20 10:00:00,1.0",
    ]
    with gzip.open(folder / "orders.csv.gz", "wt", encoding="utf-8") as orders:
        orders.write("\n".join(lines) + "\n")
    (folder / "catalogue.jsonl").write_text("".join(json.dumps(product) + "\n" for product in products))
    config = folder / "world.yaml"
    config.write_text(WORLD_YAML.replace("FOLDER", str(folder)))
    return config


WORLD_YAML = """
warehouse: FOLDER/warehouse
events:
  source: {format: csv, path: FOLDER/orders.csv.gz}
  columns: {customer: user_id, sku: item_id, ordered_at: ts, paid: value}
  event_type: purchase
items:
  source: {format: jsonl, path: FOLDER/catalogue.jsonl}
  columns: {sku: item_id, name: title, group: category}
item_text: {template: "{title}, {category}", max_tokens: 12}
split: {test_start: 2020-06-01, test_days: 28, validation_days: 28}
sequences: {max_events: 16, max_targets: 8, train_windows: 3, num_files: 4}
model: {embedding_dim: 16, user_heads: 2, id_min_targets: 2}
train: {epochs: 2, batch_rows: 16, random_negatives: 16, live_texts: 4}
score: {top_k: 30, user_block: 16}
evaluate: {bootstrap_replicates: 20}
report: {num_users: 3}
spark: {spark.sql.shuffle.partitions: 2}
"""
