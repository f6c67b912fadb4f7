"""Ablation tables: the papers' own as data, and a runner for any table. Cells are trained, measured and compared.

table: what a table is · papers, echomask, emage: the tables of the library · jobs: what is done in a process of its own ·
processes: how such processes run · estimate: what it will cost · results: means, intervals, differences ·
report: the files · runner: `ablate`, which does it all.
"""
