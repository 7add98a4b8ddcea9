"""Every error this package raises on purpose.

    TlstudyError            exit code 1, the base: the command line catches this one alone
    |- UsageError           exit code 2: wrong use or wrong input; nothing was trained, nothing was changed
    |  |- SpecError         study.toml or an option that stands for one of its keys
    |  |- StudyError        no such study, another tool's folder, results that do not fit the question
    |  |  `- LockedError    another process works on the study
    |  |- DataError         the photographs
    |  `- WeightsError      the backbone's weights
    |- RunError             exit code 1: failed while running
    |  |- StoreError        study.db cannot be read or written
    |  |  `- NoResultsError there is none yet, or one that a crash left before anything was in it
    |  |- SearchError       no configuration survived
    |  `- ExportError       the exported file does not agree with the trial it came from
    `- Interrupted          exit code 130 (143 after SIGTERM): stopped on request, everything finished is kept

A message says what was found, what was expected and what to do next.
"""

from __future__ import annotations


class TlstudyError(Exception):
    """Base of every error above; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(TlstudyError):
    exit_code = 2


class SpecError(UsageError):
    pass


class StudyError(UsageError):
    pass


class LockedError(StudyError):
    pass


class DataError(UsageError):
    pass


class WeightsError(UsageError):
    pass


class RunError(TlstudyError):
    pass


class StoreError(RunError):
    pass


class NoResultsError(StoreError):
    pass


class SearchError(RunError):
    pass


class ExportError(RunError):
    pass


class Interrupted(TlstudyError):
    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
