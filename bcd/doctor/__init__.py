"""The doctor: what is wrong with a run before it begins, above all with its teacher.

Distillation from a teacher that is untrained, whose classes are shuffled or whose pixels are normalised in another way
runs without an error and costs a day. `diagnose` checks a whole spec (`bcd doctor`), `preflight` the teacher alone,
which a run does by itself before its first step.
"""

from bcd.doctor.report import Finding, Report, Verdict
from bcd.doctor.run import diagnose, preflight

__all__ = ["Finding", "Report", "Verdict", "diagnose", "preflight"]
