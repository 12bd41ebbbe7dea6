"""The evaluator: replay of witnesses, their cross-check on any networks, and what it certifies of the next one."""

from arfj.evaluate.certificate import TransferCertificate, transfer_certificate
from arfj.evaluate.crosscheck import CrossCheck, cross_check
from arfj.evaluate.replay import Replay, Witness, load_witness, replay

__all__ = [
    "CrossCheck",
    "Replay",
    "TransferCertificate",
    "Witness",
    "cross_check",
    "load_witness",
    "replay",
    "transfer_certificate",
]
