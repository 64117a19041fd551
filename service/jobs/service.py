"""What other rooms call of this one."""

from service.jobs.shown import existing, metrics, not_found, show
from service.jobs.submit import submit
from service.jobs.verbs import cancel, pause, resume

__all__ = ["cancel", "existing", "metrics", "not_found", "pause", "resume", "show", "submit"]
