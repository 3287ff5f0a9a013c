# The agent on top of an image that people train in: docs/image.md tells how it is built and used.
ARG BASE_IMAGE=runpod/pytorch:1.0.3-cu1281-torch291-ubuntu2404

FROM ${BASE_IMAGE} AS build
ARG BASE_IMAGE
ARG AGENT_PYTHON=python3
# hadolint ignore=DL3002 # of this stage alone; the image keeps the base's user
USER 0
WORKDIR /src
# What a base image tells pip and Python is meant for its own packages.
ENV PIP_CONSTRAINT="" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONPATH=""

RUN "${AGENT_PYTHON}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
        echo "The agent needs Python 3.11 or newer, which AGENT_PYTHON=${AGENT_PYTHON} of ${BASE_IMAGE} is not;" \
            "name another one, such as --build-arg AGENT_PYTHON=python3.12" >&2; \
        exit 1; \
    }

# Wheels only: a source package would be built with whatever is newest today.
COPY requirements/build.lock requirements/image.lock requirements/
RUN "${AGENT_PYTHON}" -m venv /build \
    && /build/bin/pip install --quiet --only-binary :all: --require-hashes --requirement requirements/build.lock \
    && "${AGENT_PYTHON}" -m venv --without-pip /opt/agent \
    && /build/bin/pip --python /opt/agent/bin/python install --quiet --no-compile \
        --only-binary :all: --require-hashes --requirement requirements/image.lock

COPY pyproject.toml README.md ./
COPY supabase supabase
COPY agent agent
# Bytecode that is taken as it is: nobody but root could renew it, and plots would take twice the time.
RUN /build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && /build/bin/pip --python /opt/agent/bin/python install --quiet --no-compile --no-index --no-deps dist/*.whl \
    && /build/bin/pip --python /opt/agent/bin/python check \
    && /opt/agent/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agent/lib

COPY image/stage.py image/
RUN mkdir /layer && "${AGENT_PYTHON}" image/stage.py /layer


FROM ${BASE_IMAGE}
ARG BASE_IMAGE
ARG REVISION=""
LABEL org.opencontainers.image.title="training-completion-agent" \
      org.opencontainers.image.description="Publishes a trained model to the Hugging Face Hub, proves it, and tells the job row the truth" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

# Only copies, so that a base image's USER stays what it is. Nothing below /workspace: a volume would hide it.
COPY --from=build /opt/agent /opt/agent
COPY --from=build /layer /
COPY --chmod=755 image/launcher /opt/agent-launcher
COPY --chmod=755 agent/callback.py /opt/agent-launcher/agent/
COPY --chmod=755 image/training-agent image/training-agent-entrypoint /usr/local/bin/
COPY --chmod=755 image/post_start.sh /

# For virtual environments, which do not see the machine's packages.
ENV PYTHONPATH="${PYTHONPATH:+${PYTHONPATH}:}/opt/agent-launcher"

# No HEALTHCHECK: RunPod runs none, and a container that is alive says nothing of the model. The job row does.
# CMD stays the base image's: RunPod's /start.sh, which ends with /post_start.sh.
