"""The report: what a run did, as one page of HTML. `gather_facts` asks the tables, `render_page` writes the page."""

from recsys_spark.report.gather import gather_facts
from recsys_spark.report.page import render_page

__all__ = ["gather_facts", "render_page"]
