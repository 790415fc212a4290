"""The self-contained HTML report of a study."""

from nasturtium.report.data import Axis, Point, ReportData
from nasturtium.report.page import page
from nasturtium.report.write import collect, write

__all__ = ["Axis", "Point", "ReportData", "collect", "page", "write"]
