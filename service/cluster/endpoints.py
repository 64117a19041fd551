"""HTTP route of the cluster."""

from __future__ import annotations

import time

from fastapi import APIRouter

from service.access.principal import Me
from service.cluster import service
from service.cluster.schemas import ClusterOut
from service.deps import Db

router = APIRouter(tags=["cluster"])


@router.get("/cluster", summary="Machines, what is in use, and the length of the queue")
def get_cluster(db: Db, me: Me) -> ClusterOut:
    with db.read() as session:
        return service.show(session, me, now=time.time())
