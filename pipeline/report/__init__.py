"""The page to look at: one self-contained HTML file about a run, made from files alone."""

from pipeline.report.page import write_report

__all__ = ["write_report"]
