# Everything that needs Ray, MLflow or torch: Ray's head and nodes, the dispatcher, the MLflow server.
#
#   docker build -f docker/worker.Dockerfile -t bcd-worker .
#
# torch is the ordinary build of PyPI, which brings CUDA and runs on CPUs too; of NVIDIA the host needs the driver and
# the container toolkit only. The base is pinned by tag for the reason that api.Dockerfile gives.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
COPY docker/worker.lock /tmp/worker.lock
RUN python -m venv /opt/bcd \
    && /opt/bcd/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r /tmp/worker.lock

FROM ${BASE}
# A compiler, for `schedule.compile`: torch builds its kernels with it. Debian keeps one version of it in each release
# and removes the older ones, so a pinned version would soon not be found.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 bcd \
    && useradd --uid 10001 --gid bcd --home-dir /var/lib/bcd --no-create-home --shell /usr/sbin/nologin bcd \
    && install -d -o bcd -g bcd -m 0750 /var/lib/bcd /var/lib/bcd/storage /var/lib/bcd/work /var/lib/bcd/cache \
    /var/lib/bcd/mlflow \
    && printf '#!/bin/sh\nexec python -m service.cli "$@"\n' > /usr/local/bin/bcd \
    && chmod 0755 /usr/local/bin/bcd
COPY --from=packages /opt/bcd /opt/bcd
WORKDIR /app
COPY LICENSE ./
COPY bcd ./bcd
COPY service ./service
COPY workers ./workers
COPY recipes ./recipes
RUN python -m compileall -q .
ARG GIT_COMMIT=
ENV PATH=/opt/bcd/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/bcd \
    BCD_HOME=/var/lib/bcd \
    BCD_GIT_COMMIT=${GIT_COMMIT}
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "service.healthy", "ray-node"]
ENTRYPOINT ["python", "-m", "service.processes"]
CMD ["ray-node"]
