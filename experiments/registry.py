"""All studies by name, and the groups that are asked for together."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.studies import Study
from experiments.transfer import study as transfer

STUDIES: Mapping[str, Study] = {study.name: study for study in (transfer.STUDY,)}
GROUPS: Mapping[str, tuple[str, ...]] = {}
