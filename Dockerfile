# The service in a container.
#
#   docker build -t smart-iqa .                                    runs on CUDA, and on the CPU with SMARTIQA_DEVICE=cpu
#   docker build -t smart-iqa --build-arg DEVICE=cpu \
#       --build-arg TORCH_INDEX=<index of PyTorch's CPU builds> .  a much smaller image for the CPU alone
#   docker build -t smart-iqa:0.1.0-ray --build-arg EXTRAS=pick,ray,train .   with extras of pyproject.toml, as deploy/ray wants
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

ARG DEVICE=cuda
ARG TORCH_INDEX=
WORKDIR /srv/smart-iqa
# torch first: it is the largest part by far and changes least.
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
# Not into the working folder, where Python would find a second copy of the package.
COPY . /usr/src/smart-iqa
ARG EXTRAS=pick
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt "/usr/src/smart-iqa${EXTRAS:+[$EXTRAS]}" \
    && useradd --system --no-create-home smartiqa

USER smartiqa
ENV SMARTIQA_HOST=0.0.0.0 \
    SMARTIQA_DEVICE=${DEVICE} \
    PYTHONUNBUFFERED=1
EXPOSE 8000
# Whether it is alive: a service that drains, or still loads, is healthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["smart-iqa", "health"]
# Exec form: SIGTERM reaches the service itself, which finishes what it has accepted.
ENTRYPOINT ["smart-iqa", "serve"]
