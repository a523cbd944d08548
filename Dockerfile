# The server for Linux: `docker build -t mlx-server .`, or `--build-arg BACKEND=cuda` for a GPU of NVIDIA's.
#
#   docker run -p 127.0.0.1:8000:8000 -v mlx-models:/home/server/.cache mlx-server \
#       launch --host 0.0.0.0 --model-path mlx-community/Qwen3-0.6B-4bit
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG BACKEND=cpu
ARG EXTRAS=vlm
WORKDIR /src
COPY . .
RUN python -m venv /opt/mlx-server \
    && /opt/mlx-server/bin/pip install --no-cache-dir ".[${EXTRAS},${BACKEND}]"

FROM python:${PYTHON}-slim
# The base image says which Debian it is, and so which version of these there is.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libgomp1 libopenblas0-pthread \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 server \
    && install -d -o server -g server /home/server/.cache /home/server/.local/share/mlx-server
COPY --from=build /opt/mlx-server /opt/mlx-server
ENV PATH=/opt/mlx-server/bin:$PATH
USER 1000
WORKDIR /home/server
VOLUME ["/home/server/.cache", "/home/server/.local/share/mlx-server"]
EXPOSE 8000
# A model may take minutes to load, and is healthy meanwhile.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# SIGTERM lets running requests end.
STOPSIGNAL SIGTERM
ENTRYPOINT ["mlx-server"]
CMD ["launch", "--host", "0.0.0.0"]
