"""Package metadata. Versions are chosen in requirements.in; clusters install requirements.lock."""

import re
from pathlib import Path

from setuptools import find_packages, setup

CHECKOUT = Path(__file__).resolve().parent
DEVELOPMENT = "# === development"  # the heading in requirements.in below which the package needs nothing


def direct_requirements() -> list[str]:
    needed, _, _ = (CHECKOUT / "requirements.in").read_text().partition(DEVELOPMENT)
    return [line for line in needed.splitlines() if line and not line.startswith("#")]


def version() -> str:
    text = (CHECKOUT / "recsys_spark" / "__init__.py").read_text()
    return re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)[0]


setup(
    name="recsys-spark",
    version=version(),
    description="Recommendations for every user: Spark and Delta, Petastorm, Horovod, MLflow, bulk scoring",
    packages=find_packages(include=["recsys_spark", "recsys_spark.*", "jobs"]),
    package_data={"": ["*.html", "*.css", "*.js", "*.json", "*.yaml"]},
    python_requires=">=3.11,<3.12",
    install_requires=direct_requirements(),
)
