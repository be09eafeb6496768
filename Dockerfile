# nwb_sbtt on the CPU:   docker build -t nwb_sbtt --build-arg TORCH_CPU_INDEX=ADDRESS .
# with CUDA:             docker build -t nwb_sbtt:cuda --build-arg BASE=pytorch/pytorch:2.10.0-cuda12.8-cudnn9-runtime .
# a fit:                 docker run --rm -v "$PWD:/data" nwb_sbtt fit recording.nwb --run-dir runs/first --out latents.nwb
ARG BASE=python:3.12-slim
FROM ${BASE}

# Address of PyTorch's index of builds without CUDA, as for .github/workflows/ci.yml: without it pip takes those for GPUs, of some GB,
# unless the base has torch already.
ARG TORCH_CPU_INDEX=""

# Version of the package, where it is not the one under development: git, which knows it, is not in the image.
ARG VERSION=""

COPY . /opt/nwb_sbtt
RUN if [ -n "$TORCH_CPU_INDEX" ]; then pip install --no-cache-dir torch --index-url "$TORCH_CPU_INDEX"; fi \
    && if [ -n "$VERSION" ]; then export SETUPTOOLS_SCM_PRETEND_VERSION_FOR_NWB_SBTT="$VERSION"; fi \
    && pip install --no-cache-dir "/opt/nwb_sbtt[all]"

WORKDIR /data
ENTRYPOINT ["nwb-sbtt"]
CMD ["--help"]
