"""All studies by name, and the groups that are asked for together."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.cdf import study as cdf
from experiments.paper import claims, figures, grey_box, table1, table2, table3, table45
from experiments.studies import Study
from experiments.transfer import study as transfer

PAPER = (table1.STUDY, table2.STUDY, table3.STUDY, table45.STUDY, figures.STUDY, grey_box.STUDY, claims.STUDY)
STUDIES: Mapping[str, Study] = {study.name: study for study in (*PAPER, transfer.STUDY, cdf.STUDY)}
GROUPS: Mapping[str, tuple[str, ...]] = {"paper": tuple(study.name for study in PAPER)}
