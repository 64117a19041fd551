# The api: REST, event streams, the web UI, and the migrations of the database. It holds no torch, Ray, MLflow or Node.
#
#   docker build -f docker/api.Dockerfile -t bcd-api .
#
# The base is pinned by tag: its digest is a fact of the registry that you pull from. For builds that give the same image
# again, pass it: --build-arg BASE=python:3.11-slim-bookworm@sha256:... (`docker buildx imagetools inspect` shows it).
# Everything above the base is pinned by hash.
ARG BASE=python:3.11-slim-bookworm
ARG NODE=node:24-bookworm-slim

FROM ${NODE} AS web
WORKDIR /app/service/web
COPY docs/openapi.json /app/docs/openapi.json
COPY service/web ./
RUN npm ci && npm run build

FROM ${BASE} AS packages
COPY docker/api.lock /tmp/api.lock
RUN python -m venv /opt/bcd \
    && /opt/bcd/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r /tmp/api.lock

FROM ${BASE}
# A fixed number, so that it can be given to files and volumes outside the container.
RUN groupadd --gid 10001 bcd \
    && useradd --uid 10001 --gid bcd --home-dir /var/lib/bcd --no-create-home --shell /usr/sbin/nologin bcd \
    && install -d -o bcd -g bcd -m 0750 /var/lib/bcd /var/lib/bcd/storage \
    && printf '#!/bin/sh\nexec python -m service.cli "$@"\n' > /usr/local/bin/bcd \
    && chmod 0755 /usr/local/bin/bcd
COPY --from=packages /opt/bcd /opt/bcd
WORKDIR /app
COPY LICENSE ./
COPY bcd ./bcd
COPY service ./service
COPY --from=web /app/service/static ./service/static
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
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "service.healthy", "api"]
ENTRYPOINT ["python", "-m", "service.processes"]
CMD ["api"]
