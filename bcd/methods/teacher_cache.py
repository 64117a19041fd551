"""Teacher outputs computed once, for training images that come in a known and small number of forms.

Without augmentation a training image is the same in every epoch; with mirroring alone it is one of two. Then what the
teacher says of it never changes either. The outputs are made before the first step, in the data set's order, so they
are a function of teacher and data alone and a resumed run sees the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from bcd.assign.common import sites_inside
from bcd.data import Dataset, eval_batches
from bcd.data.loader import padded_size
from bcd.data.transforms import is_identity
from bcd.methods.base import Method, no_head
from bcd.methods.match import ranked_logits
from bcd.methods.teacher import Teacher, View
from bcd.spec import AugmentSpec, JobSpec
from bcd.types import DenseOutputs, HeadTrace, SiteGrid

KEPT = frozenset({"scores", "boxes", "distributions", "centerness"})
_BATCH = 16

Shape = tuple[int, int]


@dataclass(frozen=True)
class CachePlan:
    """What is to be kept: `forms` are the mirrorings of each image, `sites` how many of an image's sites (None: all),
    `bytes` the memory that it takes."""

    images: int
    forms: tuple[bool, ...]
    sites: int | None
    distributions: bool
    bytes: int

    def describe(self) -> str:
        mirrored = ", plain and mirrored" if len(self.forms) == 2 else ""
        kept = "" if self.sites is None else f"; the best {self.sites:,} sites of each are kept"
        return f"{self.images:,} training images{mirrored}{kept}"


def forms_of(augment: AugmentSpec) -> tuple[bool, ...] | None:
    """Whether images come mirrored, for each form in which they come; None where forms have no end."""
    if not is_identity(augment.model_copy(update={"flip": 0.0})):
        return None
    return (False,) if augment.flip == 0 else (True,) if augment.flip == 1 else (False, True)


def plan_cache(
    spec: JobSpec, dataset: Dataset, methods: Sequence[Method], teacher: Teacher, steps: int
) -> CachePlan | None:
    """What to keep, or None where outputs cannot be kept, do not fit `teacher.cache_memory`, or are used only once.

    Never looks at where a run stands: an uninterrupted and a resumed run must decide alike.
    """
    forms = forms_of(spec.data.augment)
    if spec.teacher is None or spec.teacher.cache == "off" or forms is None:
        return None
    if any(not method.needs <= KEPT or method.trace is not None for method in methods):
        return None
    distributions = any("distributions" in method.needs for method in methods)
    if distributions and spec.teacher.cache_sites is not None:
        return None
    added = 0 if spec.data.unlabeled is None else spec.data.unlabeled.count(spec.schedule.batch_size)
    if steps * (spec.schedule.batch_size + added) <= len(dataset) * len(forms):
        return None
    counts: dict[Shape, int] = {}
    for record in dataset.records:
        shape = padded_size(record.height, record.width, spec.data)
        counts[shape] = counts.get(shape, 0) + 1
    # One look at what the teacher gives: its strides, anchors and classes need not be the student's.
    out = _blank(teacher, min(counts))
    width = out.logits_BAC.shape[2] + (out.centerness_BA is not None)
    maps = 4 + (4 * out.dist_BA4R.shape[3] if distributions and out.dist_BA4R is not None else 0)
    size = 0
    for (height, wide), count in counts.items():
        places = sum(-(-height // s) * -(-wide // s) for s in out.grid.strides) * out.grid.anchors
        if spec.teacher.cache_sites is None:
            each = 4 * (width + maps) * places
        else:  # best sites with their places; the mean of the others; all boxes
            each = (2 * width + 4) * min(spec.teacher.cache_sites, places) + 4 * width + 2 * 4 * places
        size += count * len(forms) * each
    if size > spec.teacher.cache_memory * 2**30:
        return None
    return CachePlan(len(dataset), forms, spec.teacher.cache_sites, distributions, size)


@dataclass
class Group:
    """Outputs of all images of one padded size.

    Where only the best sites are kept, `site_NK` says which, `values` holds their scores and all sites' boxes, and
    `others` the mean scores of the other sites.
    """

    shapes: tuple[Shape, ...]
    anchors: int
    values: dict[str, Tensor]
    others: dict[str, Tensor]
    site_NK: Tensor | None


class CachedTeacher:
    """Takes the place of a `Teacher`: looks outputs up by image and mirroring.

    Without `teacher.cache_sites` everything is kept in fp32. With it, the scores of the best sites are kept in fp16,
    the others get their image's mean background scores; all boxes are kept, in fp16, as offsets from the site's centre
    in strides. Boxes of sites that the teacher takes for background matter: BCKD pulls hardest on boxes where teacher
    and student disagree (measured in BENCHMARKS.md).

    Images were seen alone: in a batch of several sizes, what a larger neighbour's padding would have changed near an
    image's edge is not in them, and sites beyond an image's own padded size are unknown (`known_BA`).
    """

    def __init__(
        self, teacher: Teacher, groups: Sequence[Group], rows: dict[View, tuple[int, int]], device: torch.device
    ):
        self.classes, self._teacher, self._device = teacher.classes, teacher, device
        self.groups, self.rows = list(groups), rows
        self._grids: dict[Shape, SiteGrid] = {}
        self._score: Literal["product", "sqrt"] = "product"
        self._places: dict[tuple[int, tuple[Shape, ...]], Tensor] = {}

    @property
    def bytes(self) -> int:
        return sum(
            t.numel() * t.element_size()
            for group in self.groups
            for t in (*group.values.values(), *group.others.values(), group.site_NK)
            if t is not None
        )

    def __call__(
        self,
        images_B3HW: Tensor,
        autocast: AbstractContextManager[Any],
        views: tuple[View, ...] = (),
        trace: tuple[int, ...] = (),
    ) -> DenseOutputs:
        shape = (images_B3HW.shape[2], images_B3HW.shape[3])
        if shape not in self._grids:
            blank = _blank(self._teacher, shape)
            self._grids[shape], self._score = blank.grid, blank.score
        grid = self._grids[shape]
        found = [self.rows[view] for view in views]
        numbers = {number for number, _ in found}
        if len(numbers) == 1:
            number = next(iter(numbers))
            rows = torch.tensor([row for _, row in found]).to(self._device, non_blocking=True)
            parts = [(number, slice(None), rows)]
        else:
            parts = [
                (number, slice(place, place + 1), torch.tensor([row]).to(self._device, non_blocking=True))
                for place, (number, row) in enumerate(found)
            ]
        group = self.groups[parts[0][0]]
        if len(parts) == 1 and group.site_NK is None and group.shapes == grid.shapes:
            picked = {name: values[parts[0][2]] for name, values in group.values.items()}
            return replace(_outputs(picked, grid, None), score=self._score)
        return replace(self._spread(parts, len(views), grid), score=self._score)

    def _spread(self, parts: list[tuple[int, slice, Tensor]], images: int, grid: SiteGrid) -> DenseOutputs:
        """Kept values at their places in the grid of the whole batch."""
        known_BA = torch.zeros(images, len(grid), dtype=torch.bool, device=self._device)
        everywhere = all(self.groups[number].shapes == grid.shapes for number, _, _ in parts)
        whole: dict[str, Tensor] = {}
        for name, kept in self.groups[parts[0][0]].values.items():
            filled = grid.prior_A4 if name == "boxes" else torch.zeros((), device=self._device)
            whole[name] = filled.expand(images, len(grid), *kept.shape[2:]).contiguous()
        for number, where, rows in parts:
            group = self.groups[number]
            site_A = self._place(number, grid)
            own_BA = site_A.expand(len(rows), -1)
            for name, kept in group.values.items():
                values, place, before = kept[rows].float(), own_BA, whole[name][where]
                if name in group.others:
                    assert group.site_NK is not None
                    place, before = site_A[group.site_NK[rows].long()], group.others[name][rows].expand_as(before)
                elif group.site_NK is not None:  # boxes
                    values = values * grid.stride_A[site_A][:, None] + grid.centre_A2[site_A].repeat(1, 2)
                index = place.reshape(*place.shape, *(1,) * (values.ndim - 2)).expand_as(values)
                whole[name][where] = before.scatter(1, index, values)
            known_BA[where] = known_BA[where].scatter(1, own_BA, True)
        return _outputs(whole, grid, None if everywhere else known_BA)

    def _place(self, number: int, grid: SiteGrid) -> Tensor:
        """Where the sites of a group's own grid lie in a grid of at least its size."""
        key = (number, grid.shapes)
        if key not in self._places:
            group, places = self.groups[number], []
            for (height, width), (_, most), level in zip(group.shapes, grid.shapes, grid.levels, strict=True):
                y, x, a = torch.meshgrid(*map(torch.arange, (height, width, group.anchors)), indexing="ij")
                places.append((level.start + (y * most + x) * group.anchors + a).flatten())
            self._places[key] = torch.cat(places).to(self._device)
        return self._places[key]

    def head(self, trace: HeadTrace, outputs: DenseOutputs, autocast: AbstractContextManager[Any]) -> DenseOutputs:
        return no_head(trace)  # plan_cache() keeps methods that would need it away


def cache_outputs(
    teacher: Teacher,
    dataset: Dataset,
    spec: JobSpec,
    plan: CachePlan,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    look_up: Callable[[], None] = lambda: None,
) -> CachedTeacher:
    """Run the teacher once over all images of the data set, in every form. `look_up` is called before each batch and
    may raise, to end it early."""
    collected: dict[Shape, list[Group]] = {}
    rows: dict[View, tuple[int, int]] = {}
    used: dict[Shape, int] = {}
    for batch in eval_batches(dataset, spec.data, batch_size=_BATCH):
        look_up()
        ids = [dataset.records[i].id for i in batch.indices]
        shape = (batch.images_B3HW.shape[2], batch.images_B3HW.shape[3])
        for mirrored in plan.forms:
            images = _mirror(batch.images_B3HW, batch.sizes_B2) if mirrored else batch.images_B3HW
            out = teacher(images.to(device), autocast())
            kept = collected.setdefault(shape, [])
            first = used.get(shape, 0)
            rows.update({(i, mirrored): (list(collected).index(shape), first + n) for n, i in enumerate(ids)})
            used[shape] = first + len(ids)
            kept.append(_keep(out, plan, batch.sizes_B2.to(device)))
    groups = [_join(items) for items in collected.values()]
    return CachedTeacher(teacher, groups, rows, device)


def _keep(out: DenseOutputs, plan: CachePlan, sizes_B2: Tensor) -> Group:
    """What to keep of a batch's outputs."""
    grid = out.grid
    values = {"logits": out.logits_BAC.float(), "boxes": out.boxes_BA4.float()}
    if out.centerness_BA is not None:
        values["centerness"] = out.centerness_BA.float()
    if plan.distributions and out.dist_BA4R is not None:
        values["dist"] = out.dist_BA4R.float()
    if plan.sites is None:
        return Group(grid.shapes, grid.anchors, values, {}, None)
    inside_BA = sites_inside(grid, sizes_B2)
    score_BA = ranked_logits(out).amax(-1).masked_fill(~inside_BA, -torch.inf)
    site_BK = score_BA.topk(min(plan.sites, len(grid)), dim=1).indices.sort(1).values
    other_BA = inside_BA.float().scatter(1, site_BK, 0.0)
    most = torch.finfo(torch.float16).max
    boxes = (values.pop("boxes") - grid.centre_A2.repeat(1, 2)) / grid.stride_A[:, None]
    best, others = {"boxes": boxes.clamp(-most, most).half()}, {}
    for name, whole in values.items():
        wide = (...,) + (None,) * (whole.ndim - 2)
        index = site_BK[wide].expand(-1, -1, *whole.shape[2:])
        best[name] = whole.gather(1, index).clamp(-most, most).half()
        share = other_BA / other_BA.sum(1, keepdim=True).clamp(min=1)
        others[name] = (whole * share[wide]).sum(1, keepdim=True)
    return Group(grid.shapes, grid.anchors, best, others, site_BK.int())


def _join(parts: list[Group]) -> Group:
    """All images of one padded size."""

    def together(tables: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([table[name] for table in tables]) for name in tables[0]}

    sites = [part.site_NK for part in parts if part.site_NK is not None]
    first = parts[0]
    return Group(
        first.shapes,
        first.anchors,
        together([part.values for part in parts]),
        together([part.others for part in parts]),
        torch.cat(sites) if sites else None,
    )


def _outputs(values: dict[str, Tensor], grid: SiteGrid, known_BA: Tensor | None) -> DenseOutputs:
    return DenseOutputs(
        values["logits"], values["boxes"], values.get("dist"), values.get("centerness"), (), grid, known_BA=known_BA
    )


def _mirror(images_B3HW: Tensor, sizes_B2: Tensor) -> Tensor:
    """Images flipped within their content; the padding stays on the right. Host tensors."""
    out = images_B3HW.clone()
    for image, width in zip(out, sizes_B2[:, 1].int().tolist(), strict=True):
        image[:, :, :width] = image[:, :, :width].flip(-1)
    return out


def _blank(teacher: Teacher, shape: Shape) -> DenseOutputs:
    """What the teacher gives for an empty image of a padded size: its grid and widths."""
    device = next(iter(teacher.model.parameters())).device
    with torch.no_grad():
        images = torch.zeros(1, 3, *shape, dtype=torch.uint8, device=device)
        out: DenseOutputs = teacher.model(teacher.model.normalize(images))
    return out
