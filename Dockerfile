# nwb_sbtt on the CPU:   docker build -t nwb_sbtt .
# with CUDA:             docker build -t nwb_sbtt:cuda --build-arg BASE=pytorch/pytorch:2.10.0-cuda12.8-cudnn9-runtime --build-arg TORCH= .
# a fit:                 docker run --rm -v "$PWD:/data" nwb_sbtt fit recording.nwb --run-dir runs/first --out latents.nwb
ARG BASE=python:3.12-slim
FROM ${BASE}

# Of torch, the CPU build alone: the default one brings some GB of CUDA. Empty where the base has torch already.
ARG TORCH="torch --index-url https://download.pytorch.org/whl/cpu"

COPY . /opt/nwb_sbtt
RUN if [ -n "$TORCH" ]; then pip install --no-cache-dir $TORCH; fi \
    && pip install --no-cache-dir "/opt/nwb_sbtt[all]"

WORKDIR /data
ENTRYPOINT ["nwb-sbtt"]
CMD ["--help"]
