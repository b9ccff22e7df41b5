# docker build -f deploy/cuda.Dockerfile -t adae-edge:cuda .
# CUDA and cuDNN come from PyPI with ONNX Runtime, so that they are those that it was built for; the driver is the host's.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY adae_edge adae_edge
COPY train train
COPY export export
COPY runtime runtime
COPY benchmarks benchmarks
RUN python -m venv --without-pip /opt/adae-edge && \
    python -m pip --python /opt/adae-edge/bin/python install --no-cache-dir -c constraints.txt \
    '.[gpu,camera,mqtt,prometheus]' 'onnxruntime-gpu[cuda,cudnn]>=1.24,<2'

FROM python:3.12-slim
# What opencv-python takes from the system; its wheel brings the rest.
RUN apt-get update && \
    apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/adae-edge /opt/adae-edge
ENV PATH=/opt/adae-edge/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["adae-edge"]
CMD ["run", "station.toml"]
