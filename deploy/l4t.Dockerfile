# docker build -f deploy/l4t.Dockerfile -t adae-edge:l4t .     on a Jetson with JetPack 6.1 or 6.2
# CUDA 12.6 and TensorRT 10.3 with its Python bindings are the image's: there is no such wheel for a Jetson on PyPI.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
RUN apt-get update && \
    apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0 && \
    dpkg-query -W python3-libnvinfer && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY adae_edge adae_edge
COPY train train
COPY export export
COPY runtime runtime
COPY benchmarks benchmarks
RUN python3 -m venv --system-site-packages /opt/adae-edge && \
    /opt/adae-edge/bin/pip install --no-cache-dir -c constraints.txt '.[cpu,camera,mqtt,prometheus]' 'cuda-bindings>=12.9,<13' && \
    rm -rf /source/*
ENV PATH=/opt/adae-edge/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["adae-edge"]
CMD ["run", "station.toml"]
