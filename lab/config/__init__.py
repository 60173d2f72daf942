"""Strict reading of specs, faults and knob settings; every error names place and remedy."""

from lab.config.claim import claim_files, read_claim
from lab.config.experiment import read_experiment
from lab.config.fault import fault_problem, read_fault, read_faults
from lab.config.knobs import parse_settings
from lab.config.lesson import lesson_folders, read_lesson

__all__ = [
    "claim_files",
    "fault_problem",
    "lesson_folders",
    "parse_settings",
    "read_claim",
    "read_experiment",
    "read_fault",
    "read_faults",
    "read_lesson",
]
