"""recsys_spark: raw behaviour events and a catalogue in, bulk recommendation tables out."""

__version__ = "0.1.0"
