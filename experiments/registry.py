"""All studies by name, and the groups that are asked for together."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.cdf import study as cdf
from experiments.cvar import study as cvar
from experiments.paper import claims, figures, grey_box, table1, table2, table3, table45
from experiments.scenario import control, depth, digits, joint, linear, sizes
from experiments.studies import Study
from experiments.transfer import study as transfer

PAPER = (table1.STUDY, table2.STUDY, table3.STUDY, table45.STUDY, figures.STUDY, grey_box.STUDY, claims.STUDY)
SCENARIO = (sizes.STUDY, linear.STUDY, joint.STUDY, digits.STUDY, depth.STUDY, control.STUDY)
ALL = (*PAPER, transfer.STUDY, *SCENARIO, cvar.STUDY, cvar.SCALING, cdf.STUDY, cdf.SPEED)
STUDIES: Mapping[str, Study] = {study.name: study for study in ALL}
GROUPS: Mapping[str, tuple[str, ...]] = {
    "paper": tuple(study.name for study in PAPER),
    "scenario": tuple(study.name for study in SCENARIO),
}
