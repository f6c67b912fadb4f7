"""The tables of the library, by name."""

from __future__ import annotations

from maskmotion.ablations.echomask import FIGURE_12, MASKS, TABLE_2
from maskmotion.ablations.emage import TABLE_6
from maskmotion.ablations.table import Table

TABLES: dict[str, Table] = {table.name: table for table in (TABLE_2, FIGURE_12, MASKS, TABLE_6)}
