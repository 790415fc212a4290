"""The run: store, executors, events, resume. Wires everything; the only room that knows all."""

from nasturtium.study.again import verify
from nasturtium.study.comparison import Comparison
from nasturtium.study.compat import COMPARED, Compatibility, Verdict, compatibility
from nasturtium.study.events import (
    EpochReported,
    Event,
    Listener,
    RunFinished,
    RunStarted,
    SearchFinished,
    TrialFinished,
    TrialStarted,
    WorkerLost,
)
from nasturtium.study.evidence import Evidence
from nasturtium.study.method import METHODS, Learned
from nasturtium.study.planning import Plan, plan
from nasturtium.study.results import FrontMember, Member, Study, StudyInterrupted
from nasturtium.study.session import resume, search
from nasturtium.study.starting import StartFrom
from nasturtium.study.verify_options import Verify

__all__ = [
    "COMPARED",
    "METHODS",
    "Comparison",
    "Compatibility",
    "EpochReported",
    "Event",
    "Evidence",
    "FrontMember",
    "Learned",
    "Listener",
    "Member",
    "Plan",
    "RunFinished",
    "RunStarted",
    "SearchFinished",
    "StartFrom",
    "Study",
    "StudyInterrupted",
    "TrialFinished",
    "TrialStarted",
    "Verdict",
    "Verify",
    "WorkerLost",
    "compatibility",
    "plan",
    "resume",
    "search",
    "verify",
]
