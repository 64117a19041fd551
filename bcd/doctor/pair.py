"""Do teacher, student, methods and data go together? Classes, plan, agreement, positives, loss terms, memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bcd.cost import peak_memory
from bcd.data import Batch, Splits
from bcd.doctor.report import Finding
from bcd.methods import Method, Step, build_method, trace_depths
from bcd.methods.match import ClassMap, MatchError
from bcd.methods.teacher import Teacher
from bcd.models.detector import Detector
from bcd.spec import AdamWSpec, JobSpec, plan_pair
from bcd.types import Targets

SEEN = 8  # images of the step in which loss terms and agreement are taken
MOST_LOST_BOXES = 0.05


def check_classes(classes: ClassMap, student: Sequence[str], teacher: Sequence[str]) -> Finding:
    """Which of the data's classes the teacher knows."""
    ours = len(student) if classes.student is None else len(classes.student)
    used = len(teacher) if classes.teacher is None else len(classes.teacher)
    unused = len(teacher) - used
    values = {
        "classes": len(student),
        "known_to_the_teacher": ours,
        "unknown_to_the_teacher": list(classes.unmapped),
        "teacher_classes_without_use": unused,
    }
    extra = f"; {unused} classes of the teacher are not in the data" if unused else ""
    if not classes.unmapped:
        return Finding("classes", "ok", f"the teacher knows all {len(student)} classes{extra}", "", values)
    missing = ", ".join(classes.unmapped[:5]) + (", ..." if len(classes.unmapped) > 5 else "")
    found = f"the teacher knows {ours} of {len(student)} classes, not {missing}{extra}"
    advice = "these are learnt from labels alone; where the teacher only calls them otherwise, give teacher.classes"
    return Finding("classes", "warn", found, advice, values)


def check_plan(spec: JobSpec, student: Detector, teacher: Detector, classes: ClassMap) -> Finding:
    """Whether each method finds what it needs in both heads."""
    shared = student.num_classes if classes.student is None else len(classes.student)
    faults = plan_pair(student.info.arguments, teacher.info.arguments, spec.methods, classes=shared)
    if faults:
        found = "; ".join(f"{pointer}: {message}" for pointer, message in faults)
        return Finding("pair", "fail", found, "change the method, the student or the teacher as it says")
    pair = f"{_family(teacher)} teaches {_family(student)} by {', '.join(m.type for m in spec.methods)}"
    return Finding("pair", "ok", pair)


def check_step(spec: JobSpec, student: Detector, teacher: Teacher, batch: Batch) -> list[Finding]:
    """One training step of every method: how far the two agree before training, and which loss terms are 0.

    The student is as it starts. Nothing is trained: no gradient is kept and BatchNorm's statistics stay.
    """
    device = next(student.parameters()).device
    try:
        methods = [build_method(m, student, teacher.model).to(device) for m in spec.methods]
        step, supervised = _step(student, teacher, batch, methods)
    except (MatchError, ValueError) as error:
        return [Finding("loss.terms", "fail", f"a step cannot be made: {error}", "change the pair or the method")]
    return [_agreement(step), _terms(spec, methods, step, supervised)]


@torch.no_grad()
def _step(
    student: Detector, teacher: Teacher, batch: Batch, methods: Sequence[Method]
) -> tuple[Step, dict[str, Tensor]]:
    device = next(student.parameters()).device
    images, targets = batch.images_B3HW.to(device), batch.targets.to(device)
    ours, theirs = trace_depths(methods)
    out = student(student.normalize(images), ours)
    assigned = student.assign(out, targets)
    teacher_out = teacher(images, nullcontext(), (), theirs)
    step = Step.of(
        out,
        teacher_out,
        assigned,
        targets,
        teacher.classes,
        lambda maps: teacher.head(maps, teacher_out, nullcontext()),
    )
    return step, student.task_loss(out, targets, assigned)


def _agreement(step: Step) -> Finding:
    """Correlation of both models' scores over sites and shared classes, and their mean distance."""
    pair = step.matched
    weight = pair.weight_BA[..., None].expand_as(pair.student_ranked_BAM) > 0
    ours, theirs = (
        logits.sigmoid()[weight].double().cpu() for logits in (pair.student_ranked_BAM, pair.teacher_ranked_BAM)
    )
    if len(ours) < 2:
        return Finding("agreement", "warn", "teacher and student have no site and class in common", "", {})
    both = torch.stack([ours, theirs])
    correlation = float(torch.corrcoef(both)[0, 1]) if float(both.std(dim=1).min()) > 0 else 0.0
    gap, highest = float((ours - theirs).abs().mean()), float(theirs.max())
    share = float((pair.weight_BA > 0).sum() / step.assigned.site_weight_BA.gt(0).sum().clamp(min=1))
    values = {
        "score_correlation": round(correlation, 4),
        "mean_score_gap": gap,
        "highest_teacher_score": highest,
        "sites_with_a_teacher": round(share, 4),
    }
    found = f"before training: correlation {correlation:.2f}, mean |p_teacher - p_student| {gap:.4f}"
    if share < 0.5:
        found += f"; only {share:.0%} of the student's sites have a teacher's site to learn from"
        return Finding("agreement", "warn", found, "bring student.strides and prior_scale near the teacher's", values)
    if gap == 0:
        found = "teacher and student say the same: there is nothing to distil"
        return Finding("agreement", "warn", found, "is the student loaded from the teacher?", values)
    return Finding("agreement", "info", found, "", values)


@torch.no_grad()
def _terms(spec: JobSpec, methods: Sequence[Method], step: Step, supervised: dict[str, Tensor]) -> Finding:
    """Loss terms of one step. One that is exactly 0 though its weight is not gives nothing to learn from."""
    terms: dict[str, float] = {name: float(value) for name, value in supervised.items()}
    dead, broken, off = [], [], []
    for method in methods:
        if method.spec.weight == 0:
            off.append(method.spec.type)
        for name, value in method(step).items():
            terms[name] = float(value)
            if terms[name] == 0 and method.spec.weight != 0:
                dead.append(name)
    broken = [name for name, value in terms.items() if not np.isfinite(value)]
    values = {"terms": {k: v if np.isfinite(v) else None for k, v in terms.items()}, "dead": dead, "broken": broken}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
    if broken:
        found = f"not finite at the first step: {', '.join(broken)}"
        return Finding("loss.terms", "fail", found, "look at the data's boxes and the teacher's normalisation", values)
    if dead:
        advice = "drop a term that cannot work here, or find out what it lacks (positives on its level, say)"
        return Finding("loss.terms", "warn", f"exactly 0 at the first step: {', '.join(dead)}", advice, values)
    if off:
        return Finding("loss.terms", "warn", f"weight 0 turns off: {', '.join(off)}", "drop it or raise weight", values)
    return Finding("loss.terms", "ok", f"of one step: {shown}", "", values)


@torch.no_grad()
def check_positives(student: Detector, batches: Sequence[Batch]) -> Finding:
    """How many sites of each level learn a box, and how many boxes no site learns."""
    device = next(student.parameters()).device
    counts: list[int] = []
    boxes = lost = images = 0
    sides: list[float] = []
    for batch in batches:
        targets = batch.targets.to(device)
        out = student(student.normalize(batch.images_B3HW.to(device)))
        assigned = student.assign(out, targets)
        found = [int(assigned.positive_BA[:, level].sum()) for level in out.grid.levels]
        counts = [a + b for a, b in zip(counts or [0] * len(found), found, strict=True)]
        images += len(batch.images_B3HW)
        for without, box_G4 in _without_site(assigned.positive_BA, assigned.box_BA4, targets):
            boxes, lost = boxes + len(box_G4), lost + int(without.sum())
            sides += (box_G4[without][:, 2:] - box_G4[without][:, :2]).prod(-1).sqrt().tolist()
    strides = list(student.strides)
    values: dict[str, Any] = {
        "images": images,
        "boxes": boxes,
        "boxes_without_a_site": lost,
        "positives_per_level": dict(zip(map(str, strides), counts, strict=True)),
    }
    if not boxes:
        return Finding("student.positives", "warn", f"{images} training images hold no box", "", values)
    levels = ", ".join(f"stride {stride}: {count:,}" for stride, count in zip(strides, counts, strict=True))
    shown = f"positive sites on {images} images: {levels}"
    if lost > MOST_LOST_BOXES * boxes:
        side = float(np.median(sides))
        shown += f"; {lost} of {boxes} boxes get none (half of these are under {side:.0f} px)"
        advice = "no site learns them: lower student.prior_scale, add a finer stride, or enlarge data.image_size"
        return Finding("student.positives", "warn", shown, advice, values)
    if 0 in counts and images >= 16:
        empty = [str(stride) for stride, count in zip(strides, counts, strict=True) if not count]
        advice = "such a level costs time and learns background only: drop it, or change student.prior_scale"
        return Finding("student.positives", "warn", f"{shown}; empty: stride {', '.join(empty)}", advice, values)
    return Finding("student.positives", "ok", shown, "", values)


def _without_site(positive_BA: Tensor, box_BA4: Tensor, targets: Targets) -> list[tuple[Tensor, Tensor]]:
    """For each image: which of its boxes no positive site has, and the boxes."""
    out = []
    for i in range(len(positive_BA)):
        boxes_G4 = targets.boxes_BG4[i][targets.valid_BG[i]]
        taken_K4 = torch.unique(box_BA4[i][positive_BA[i]], dim=0)
        has_G = (boxes_G4[:, None] == taken_K4[None]).all(-1).any(1)
        out.append((~has_G, boxes_G4))
    return out


def check_memory(spec: JobSpec, student: Detector, teacher: Detector | None, batch: Batch) -> Finding:
    """Bytes of a training step, counted on one image and scaled to the batch, against what is free.

    Weights, gradients, optimizer state and average once; what autograd keeps and what the teacher holds at once for
    each image. Kernels' workspace, the loss and fragmentation come on top: an estimate, a third too low at times.
    """
    device = next(student.parameters()).device
    image = batch.images_B3HW[:1].to(device)
    weights = sum(p.numel() * p.element_size() for p in student.parameters())
    state = 2 if isinstance(spec.schedule.optimizer, AdamWSpec) else 1
    copies = 1 + 1 + state + (1 if spec.schedule.ema > 0 else 0)
    kept = _saved_bytes(student, image)
    extra = others = 0
    if teacher is not None:
        others = sum(p.numel() * p.element_size() for p in teacher.parameters())
        with torch.inference_mode():
            extra = peak_memory(lambda: teacher(teacher.normalize(image)), device)
    images = spec.schedule.batch_size
    total = copies * weights + others + images * (kept + extra)
    free = _free_bytes(device)
    values = {
        "weights_gradients_optimizer": copies * weights,
        "teacher_weights": others,
        "activations_per_image": kept,
        "teacher_per_image": extra,
        "batch_size": images,
        "total": total,
        "free": free,
        "device": device.type,
    }
    found = f"about {_size(total)} at batch {images}" + (f", {_size(free)} free on the {device.type}" if free else "")
    advice = "lower schedule.batch_size or data.image_size"
    if free and total > 1.5 * free:
        return Finding("memory", "fail", found, advice, values)
    if free and total > 0.9 * free:
        return Finding("memory", "warn", found, advice, values)
    return Finding("memory", "ok", found, "", values)


def _saved_bytes(student: Detector, image: Tensor) -> int:
    """Bytes that autograd keeps of one image's forward pass, without the parameters."""
    known = {p.untyped_storage()._cdata for p in student.parameters()}
    alive: list[Tensor] = []  # as long as they are counted, so that no address comes back
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        key = tensor.untyped_storage()._cdata
        if key not in known:
            known.add(key)
            alive.append(tensor)
            total += tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        student(student.normalize(image))
    return total


def _free_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def check_data(splits: Splits) -> Finding:
    """What stands out in the labels. `bcd data check` looks at the files themselves."""
    train, val = splits.train, splits.val
    counts = {}
    for name, part in (("train", train), ("val", val)):
        labels = np.concatenate([np.empty(0, np.int64), *(r.labels[~r.ignore] for r in part.records)])
        counts[name] = np.bincount(labels, minlength=len(part.class_names))
    unseen = [n for n, c in zip(train.class_names, counts["train"], strict=True) if not c]
    unjudged = [n for n, c in zip(train.class_names, counts["val"], strict=True) if not c]
    empty = sum(not (~r.ignore).any() for r in train.records)
    values = {
        "train_images": len(train),
        "val_images": len(val),
        "unlabeled_images": len(splits.unlabeled) if splits.unlabeled is not None else 0,
        "train_objects": int(counts["train"].sum()),
        "val_objects": int(counts["val"].sum()),
        "train_images_without_objects": empty,
        "classes_without_training_objects": unseen,
        "classes_without_validation_objects": unjudged,
    }
    found = (
        f"{len(train):,} training images ({values['train_objects']:,} objects), {len(val):,} validation images "
        f"({values['val_objects']:,})"
    )
    if unseen:
        found += f"; no training object of {_few(unseen)}"
        return Finding("data", "warn", found, "label some, or leave these classes out", values)
    if len(val) < 32 or unjudged:
        missing = f"; no validation object of {_few(unjudged)}" if unjudged else ""
        return Finding("data", "warn", found + missing, "a small validation split makes AP a matter of luck", values)
    return Finding("data", "ok", found, "", values)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _family(model: Detector) -> str:
    return f"{model.info.arguments.get('detector')} {model.info.arguments.get('backbone')}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
