"""Secrets: what connects gets them, what is recorded, printed or told does not hold them."""

import copy
import json
import pickle
import time

import pytest

from recsys_spark.bridges.snapshot import Snapshot, SnapshotFile
from recsys_spark.config.secrets import conceal_setting, hide, insert, is_secret
from recsys_spark.runner import as_job
from recsys_spark.tracking import tracking_place
from recsys_spark.training import plan_training

SECRET = "hunter2/+=x"
PLACES = (
    "warehouse", "landing", "events.source.path", "items.source.path", "tracking.uri", "tracking.artifacts",
    "events.source.options.x", "spark.spark.x", "rules.blocked.source.path", "rules.blocked.source.options.x",
)  # fmt: skip
BLOCKED = "rules.blocked={source: {format: csv, path: x}, columns: {a: user_id, b: item_id}}"


def value_at(config, path):
    if path.startswith("spark."):
        return config.spark["spark.x"]
    value = config
    for key in path.split("."):
        value = value[key] if isinstance(value, dict) else getattr(value, key)
    return value


def everything_shown(config):
    """All that a configuration gives to be written down or printed, and its values one by one."""
    plan = plan_training(config, train=SNAPSHOT, checksum=1, validation=SNAPSHOT, item_text=SNAPSHOT)
    shown = [json.dumps(config.recorded()), json.dumps(plan.facts), config.model_dump_json(), repr(config), str(config)]
    shown += [repr(section) for section in (config.tracking, config.events, config.items, config.rules, config.spark)]
    shown += [json.dumps(config.section(path)) for path in ("spark", "events", "tracking", "rules", "tracking.uri")]
    return "\n".join([*shown, repr(tracking_place(config.tracking))])


SNAPSHOT = Snapshot("events", 3, (SnapshotFile("file:///a", 8), SnapshotFile("file:///b", 8)))


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("way", ["variable", "file"])
def test_a_secret_reaches_what_connects_and_is_recorded_as_its_reference(load, tmp_path, monkeypatch, path, way):
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    (tmp_path / "a secret").write_text(f"{SECRET}\n")
    reference = "${SHOP_SECRET}" if way == "variable" else f"${{file:{tmp_path}/a secret}}"
    config = load(BLOCKED, f"{path}=x://me:{reference}@host/{reference}")
    assert value_at(config, path) == f"x://me:{SECRET}@host/{SECRET}"
    assert SECRET not in everything_shown(config)
    recorded = config.section(path) if not path.startswith("spark.") else config.section("spark")["spark.x"]
    assert recorded == f"x://me:{reference}@host/{reference}"


def test_places_below_a_warehouse_with_a_secret_have_it_and_do_not_show_it(load, monkeypatch):
    monkeypatch.setenv("BUCKET", "hunter2")
    config = load("warehouse=s3a://${BUCKET}/w")
    assert config.tracking.artifacts == "s3a://hunter2/w/mlflow_artifacts"
    assert config.section("tracking.artifacts") == "s3a://${BUCKET}/w/mlflow_artifacts"
    assert "hunter2" not in everything_shown(config)


def test_a_value_that_was_inserted_is_hidden_wherever_others_repeat_it(load, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", "x7-9.$w")
    load("tracking.uri=https://mlflow/${SHOP_TOKEN}/api", "warehouse=ftp://me:${SHOP_TOKEN}@host/w")
    told = "API request to endpoint /x7-9.$w/mlflow/list failed; report: ftp://me:x7-9.$w@host/w/report.html, x7-9.$wx"
    assert hide(told) == (
        "API request to endpoint /${SHOP_TOKEN}/mlflow/list failed; report: ftp://me:***@host/w/report.html, x7-9.$wx"
    )
    monkeypatch.setenv("SHOP_TOKEN", "abc")
    load("tracking.uri=https://mlflow/${SHOP_TOKEN}/api")
    assert hide("an abc of things") == "an abc of things", "too short to be looked for in texts"
    assert load("run.id=x7-9").run.id == "x7-9"
    assert load("tracking.uri=https://x7-9.$w/").recorded()["tracking"]["uri"] == "https://x7-9.$w/", "as it was typed"


def test_a_rotated_secret_leaves_the_record_as_it_was(load, monkeypatch):
    records = []
    for secret in ("old", "new"):
        monkeypatch.setenv("SHOP_SECRET", secret)
        typed = load("tracking.uri=http://me:${SHOP_SECRET}@h", f"spark.fs.s3a.secret.key={secret}")
        records.append(typed.recorded())
        assert typed.spark["fs.s3a.secret.key"] == secret
    assert records[0] == records[1]


def test_what_was_inserted_is_no_reference_and_no_place_again(load, monkeypatch):
    monkeypatch.setenv("A", "${B}{warehouse}")
    monkeypatch.setenv("B", "b")
    assert load("warehouse=w", "tracking.uri=${A}/${B}").tracking.uri == "${B}{warehouse}/b"


@pytest.mark.parametrize(
    "setting",
    ["rules.conditions.x=item.a = '${SHOP_SECRET}'", "encoder=${SHOP_SECRET}", "events.batch=${SHOP_SECRET}",
     "tracking.experiment=${SHOP_SECRET}",
     "spark.spark.x=${spark.app.id} ${env:HOME} ${system:user.name} $SHOP_SECRET ${ SHOP_SECRET} ${",
     "events.source.path=/in/{a,b}/$1/${}"],
)  # fmt: skip
def test_elsewhere_and_in_other_forms_it_is_ordinary_text(load, monkeypatch, setting):
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    path, _, typed = setting.partition("=")
    config = load(setting)
    value = config.rules.conditions["x"] if path == "rules.conditions.x" else value_at(config, path)
    assert value == typed


@pytest.mark.parametrize("path", [path for path in PLACES if path not in ("warehouse", "landing")])
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("${NOT_THERE}", "wanted a text in the environment variable NOT_THERE; found none, or an empty one."),
        ("${EMPTY}", "wanted a text in the environment variable EMPTY; found none, or an empty one."),
        ("${file:/not/there}", "wanted a text in the file /not/there; found no such file or directory."),
        ("${file:FOLDER}", "wanted a text in the file FOLDER; found is a directory."),
        ("${file:FOLDER/empty}", "wanted a text in the file FOLDER/empty; found an empty one."),
        ("${file:FOLDER/lines}", "wanted a text in the file FOLDER/lines; found control characters or a second line."),
        ("${file:FOLDER/latin}", "wanted a text in the file FOLDER/latin; found bytes that are no UTF-8."),
    ],
)
def test_a_secret_that_is_not_there_names_the_setting_and_no_value(
    problems, tmp_path, monkeypatch, path, reference, message
):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("hunter2\nhunter3\n")
    (tmp_path / "latin").write_bytes(b"\xfchunter2")
    reference, message = (text.replace("FOLDER", str(tmp_path)) for text in (reference, message))
    (line,) = problems(BLOCKED, f"{path}=${{SHOP_SECRET}}{reference}")
    assert line == f"{path}: {message} Put the secret there; {reference} stands for it."


# --- secrets that are written out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["fs.s3a.secret.key", "spark.hadoop.fs.s3a.access.key", "spark.hadoop.fs.s3a.session.token", "user_password",
     "spark.ssl.keyPassword", "PASSWD", "sfPassword", "fs.azure.account.key.shop.dfs.core.windows.net", "accessKey",
     "fs.azure.sas.container.shop", "fs.gs.auth.service.account.private.key", "dfs.adls.oauth2.credential", "apiKey",
     "spark.hadoop.fs.s3a.server-side-encryption.key", "private_key", "db.pwd"],
)  # fmt: skip
def test_settings_with_the_name_of_a_secret_are_masked(load, name):
    for path in ("spark", "events.source.options", "rules.blocked.source.options"):
        config = load(BLOCKED, f"{path}.{name}=hunter2")
        assert config.section(path)[name] == "***"
        assert "hunter2" not in everything_shown(config)


@pytest.mark.parametrize(
    "name", ["spark.sql.shuffle.partitions", "sep", "spark.network.sasl.x", "assign", "design", "spark.executor.memory"]
)
def test_other_settings_are_recorded_as_they_are(load, name):
    assert not is_secret(name)
    assert load(f"spark.{name}=a=b").section("spark") == {name: "a=b"}


def test_a_password_in_any_text_of_the_configuration_is_masked(load):
    uri = "x://me:hunter2@host:80/a?user=me&sig=hunter2%3D;password=hunter2#b"
    config = load(
        BLOCKED, *(f"{path}={uri}" for path in PLACES), f"encoder={uri}", f"events.batch={uri}",
        f"rules.conditions.x=item.a = '{uri}'", f"events.where.x='{uri}' = a",
        f"item_text.template={{title}} {uri}", "spark.spark.driver.extraJavaOptions=-Xmx1g -Da.trustPassword=hunter2",
    )  # fmt: skip
    assert config.tracking.uri == uri
    assert "hunter2" not in everything_shown(config)
    assert config.section("tracking.uri") == "x://me:***@host:80/a?user=me&sig=***;password=***#b"
    assert config.section("spark")["spark.driver.extraJavaOptions"] == "-Xmx1g -Da.trustPassword=***"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (
            "-javaagent:/opt/agent.jar=port=9999,token=hunter2 -Da=b",
            "-javaagent:/opt/agent.jar=port=9999,token=*** -Da=b",
        ),
        ("-Da=b,password=hunter2=,x -Dc=d", "-Da=b,password=*** -Dc=d"),
        ("-Dmy.secret=a=hunter2 -Dtoken=hunter2", "-Dmy.secret=*** -Dtoken=***"),
        ("-Da=b=c=d=e", "-Da=b=c=d=e"),
    ],
)
def test_a_secret_behind_another_name_of_a_setting_is_masked_too(load, options, shown):
    config = load(f"spark.spark.driver.extraJavaOptions={options}")
    assert config.section("spark")["spark.driver.extraJavaOptions"] == shown
    assert "hunter2" not in everything_shown(config)


@pytest.mark.parametrize(
    "layer",
    ["spark: fs.s3a.secret.key=hunter2", "spark: [hunter2]", "spark: {fs.s3a.secret.key: [hunter2]}",
     "spark: {fs.s3a.secret.key: {hunter2: x}}", "spark: {a.secret: *hunter2}", "spark: {a.secret: !hunter2}",
     "spark: {a.secret: &hunter2 x, b: &hunter2 y}", "spark: {a.secret: !hunter2!x y}", "spark: {a: 'hunter2}",
     "events: {source: {options: hunter2}}", "events: {source: {options: [hunter2]}}",
     "events: {source: {options: {password: [hunter2]}}}", "tracking: x://me:hunter2@h", "tracking: [hunter2]",
     "tracking: {uri: [hunter2]}", "tracking: {uri: \"x://me:hunter2@h\\0\"}", "tracking: {password: hunter2}",
     "tracking: {model_name: x://me:hunter2@h}", "run: {id: x://me:hunter2@h}", "hunter2", "[hunter2]",
     "run: {seed: x://me:hunter2@h}", "run: {seed: !!int hunter2}", "events: {source: {format: x://me:hunter2@h}}",
     "items: {columns: {a: x://me:hunter2@h, b: item_id}}", "split: {test_start: x://me:hunter2@h}"],
)  # fmt: skip
def test_no_message_about_a_configuration_quotes_a_secret(problems, layer):
    found = problems(texts=[layer])
    assert found
    assert "hunter2" not in "\n".join(found).replace("spark.fs.s3a.secret.key.hunter2", "")


def test_what_a_stopped_job_prints_hides_passwords_too(capsys):
    assert as_job("tiny", lambda *_: None, ["--conf-file", "http://me:hunter2@h/a.yaml"]) == 1
    assert "found no file http://me:***@h/a.yaml." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pw@host:80/x?token=abc&b=1#f", "http://me:***@host:80/x?token=***&b=1#f"),
        ("could not reach http://u:p@h/, nor http://v:q@i", "could not reach http://u:***@h/, nor http://v:***@i"),
        ("postgresql+psycopg2://u:p@ss@h/db", "postgresql+psycopg2://u:***@h/db"),
        ("postgresql://u:p/w?x#y@h/db", "postgresql://u:***@h/db"),
        ("http://u:12345@h", "http://u:***@h"),
        ("http://:pw@h", "http://:***@h"),
        ("url: /api/2.0?access_token=abc (Caused by", "url: /api/2.0?access_token=*** (Caused by"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=a&X-Amz-Date=b", "https://b.s3.amazonaws.com/k?X-Amz-Signature=***&X-Amz-Date=b"),
        ("jdbc:sqlserver://h:1433;user=me;password=pw;x=1", "jdbc:sqlserver://h:1433;user=me;password=***;x=1"),
        ("postgresql://u:${PW}@h/db?password=${PW}", "postgresql://u:${PW}@h/db?password=${PW}"),
        ("hdfs://nn:8020/user/a@b", "hdfs://nn:8020/user/a@b"),
        ("abfss://container@account.dfs.core.windows.net/w", "abfss://container@account.dfs.core.windows.net/w"),
        ("sqlite:///w/mlflow.db", "sqlite:///w/mlflow.db"),
        ("item.token='x' and item.a = 'b'", "item.token='x' and item.a = 'b'"),
    ],
)  # fmt: skip
def test_hide_masks_credentials_in_uris_and_nothing_else(text, shown):
    assert hide(text) == shown


@pytest.mark.parametrize(
    "text",
    ["://" + "a" * 10**5, "://a:" * 20_000, "?" + "a." * 50_000, "://" + "a:" * 50_000, "?sig=" * 20_000, "a" * 10**5,
     "a." * 50_000 + "=", "secret" * 10_000, "://u:" + "b" * 10**5, "${" * 50_000, "://u:p@" * 10_000],
)  # fmt: skip
def test_no_text_makes_the_patterns_slow(text):
    started = time.perf_counter()
    hide(text), conceal_setting("x", text), is_secret(text), insert(text)
    assert time.perf_counter() - started < 2, "100,000 letters: 0.3 s at most were measured"


def test_an_inserted_secret_stays_hidden_in_copies_and_on_its_way_to_a_worker(monkeypatch):
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    inserted = insert("x://${SHOP_SECRET}")
    for text in (copy.deepcopy(inserted), pickle.loads(pickle.dumps(inserted))):
        assert text == f"x://{SECRET}"
        assert repr(text) == "'x://${SHOP_SECRET}'"
        assert hide(text) == "x://${SHOP_SECRET}"
