# The installed package with PyTorch and its CUDA libraries, for clusters with containers:
#   docker build -t prunebench .
#   apptainer build prunebench.sif docker-daemon://prunebench:latest
#   apptainer exec --nv prunebench.sif snakemake --cores all
FROM python:3.12-slim-bookworm AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim-bookworm
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl
# Users of a cluster have no home folder in the image.
ENV MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache
WORKDIR /study
CMD ["prunebench", "--help"]
