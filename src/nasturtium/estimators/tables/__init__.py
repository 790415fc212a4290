"""Tables as estimators: results that are known, looked up in an instant, with a simulated clock."""

from nasturtium.estimators.tables.catalog import TABLES, table
from nasturtium.estimators.tables.column import Column, merge_repeats
from nasturtium.estimators.tables.making import make_table
from nasturtium.estimators.tables.tabular import Tabular

__all__ = ["TABLES", "Column", "Tabular", "make_table", "merge_repeats", "table"]
