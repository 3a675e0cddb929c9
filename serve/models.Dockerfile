# The model workshop: `framegrid model …` with Ultralytics and torch, to import, train, quantise and measure models.
# AGPL-3.0 comes with it, and gigabytes: it makes bundles, and never serves.
#   docker build -f serve/models.Dockerfile -t framegrid-models . && docker run --rm -v "$PWD/models:/models" framegrid-models pull yolo11n
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
ENV UV_PROJECT_ENVIRONMENT=/opt/framegrid UV_PYTHON_DOWNLOADS=never UV_PYTHON=python3 UV_NO_CACHE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN pip install --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}"
WORKDIR /src
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --frozen --no-build --no-install-project --extra local --extra workshop
COPY serve/framegrid_serve serve/framegrid_serve
COPY ingest/framegrid_ingest ingest/framegrid_ingest
COPY store/framegrid_store store/framegrid_store
COPY local/framegrid_local local/framegrid_local
COPY loadtest/framegrid_sim loadtest/framegrid_sim
RUN uv sync --frozen --no-editable --extra local --extra workshop

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --create-home --home-dir /home/framegrid --shell /usr/sbin/nologin framegrid
COPY --from=build /opt/framegrid /opt/framegrid
ENV PATH=/opt/framegrid/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp YOLO_CONFIG_DIR=/tmp YOLO_AUTOINSTALL=false
USER 10001
WORKDIR /models
ENTRYPOINT ["framegrid", "model"]
CMD ["--help"]
