"""The job spec: what to train on, from which teacher, into which student, how, and how it is judged.

This room owns the contract between the library, the service and the workers. It imports no torch, so that the API
process can validate and publish it without loading a training stack. Unknown keys are refused everywhere. Each block
of the spec has a file of its own.
"""

from bcd.spec.base import SpecError
from bcd.spec.data import (
    AugmentSpec,
    CocoData,
    DataSpec,
    DigitsData,
    UnlabeledFiles,
    UnlabeledScenes,
    VocData,
    YoloData,
)
from bcd.spec.evaluation import EvaluationSpec
from bcd.spec.job import JobSpec, ResourceSpec
from bcd.spec.methods import (
    BckdMethod,
    CrossKdMethod,
    FgdMethod,
    FineGrainedMethod,
    FitNetMethod,
    GiMethod,
    LdMethod,
    MethodSpec,
    PkdMethod,
    SigmoidKdMethod,
    SoftmaxKdMethod,
)
from bcd.spec.models import DetectorSpec
from bcd.spec.parse import load_spec, parse_spec
from bcd.spec.paths import path_faults
from bcd.spec.plan import check_pair, method_needs, plan_pair, teacher_arguments
from bcd.spec.schedule import AdamWSpec, CosineSpec, EarlyStopSpec, MultiStepSpec, Plan, ScheduleSpec, SgdSpec
from bcd.spec.teacher import TeacherSpec

__all__ = [
    "AdamWSpec",
    "AugmentSpec",
    "BckdMethod",
    "CocoData",
    "CosineSpec",
    "CrossKdMethod",
    "DataSpec",
    "DetectorSpec",
    "DigitsData",
    "EarlyStopSpec",
    "EvaluationSpec",
    "FgdMethod",
    "FineGrainedMethod",
    "FitNetMethod",
    "GiMethod",
    "JobSpec",
    "LdMethod",
    "MethodSpec",
    "MultiStepSpec",
    "PkdMethod",
    "Plan",
    "ResourceSpec",
    "ScheduleSpec",
    "SgdSpec",
    "SigmoidKdMethod",
    "SoftmaxKdMethod",
    "SpecError",
    "TeacherSpec",
    "UnlabeledFiles",
    "UnlabeledScenes",
    "VocData",
    "YoloData",
    "check_pair",
    "load_spec",
    "method_needs",
    "parse_spec",
    "path_faults",
    "plan_pair",
    "teacher_arguments",
]
