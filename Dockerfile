# Every image of the project. Targets: vm, server, registry, operator (the default).
# BASE is any Debian 12 with Python 3.11; where no image hub is reachable, one made from Debian's packages alone.
# Nothing here needs BuildKit: Debian's and Ubuntu's engines come without buildx.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
ENV LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt


# The local stand-in for a Container-Optimized OS machine: its own Docker engine, metadata at 169.254.169.254.
FROM base AS vm
RUN apt-get update \
 && apt-get install -y --no-install-recommends docker.io iptables iproute2 dnsmasq-base e2fsprogs curl ca-certificates tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
# Container-Optimized OS has none of these; what a startup script must not use shall not be there to be used.
RUN rm -f /usr/bin/python3* /usr/local/bin/python* /usr/local/bin/pip* /usr/bin/perl* /usr/bin/awk /usr/bin/mawk \
          /usr/bin/apt* /usr/bin/dpkg* /usr/sbin/service \
 && mkdir -p /var/lib/google /var/lib/docker
COPY localcloud/vm-image/vm-init /sbin/vm-init
VOLUME ["/var", "/var/lib/docker"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tini", "--", "/sbin/vm-init"]


# What runs on the VM: process 1 is budget_server.vm. Custom images are built FROM this one.
FROM base AS server
RUN groupadd --gid 10001 predictor \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin predictor
RUN python3 -m venv /opt/budget/venv
ENV PATH=/opt/budget/venv/bin:$PATH
COPY requirements/server.txt /opt/budget/requirements.txt
RUN pip install --no-cache-dir --require-hashes -r /opt/budget/requirements.txt
COPY server/pyproject.toml /opt/budget/server/pyproject.toml
COPY server/budget_server /opt/budget/server/budget_server
# uv carries the build backend itself, so nothing is fetched here. Compiled once: the root is read-only on the VM.
RUN uv pip install --python /opt/budget/venv/bin/python --no-deps --no-index --no-cache /opt/budget/server \
 && python -m compileall -q /opt/budget/venv/lib \
 && install -d -m 0755 /var/lib/budgetml
VOLUME ["/var/lib/budgetml"]
ENTRYPOINT ["/opt/budget/venv/bin/python", "-m", "budget_server.vm"]


# The registry that local VMs pull from, under the name registry.budget.internal.
FROM base AS registry
RUN apt-get update \
 && apt-get install -y --no-install-recommends docker-registry \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY dev/registry.yml /etc/registry.yml
VOLUME ["/var/lib/registry"]
ENTRYPOINT ["docker-registry", "serve", "/etc/registry.yml"]


# Where the operator is put together; what only that needs stays behind.
FROM base AS operator-build
RUN python3 -m venv /opt/build \
 && python3 -m venv --without-pip /opt/budget/venv
COPY requirements/bootstrap.txt requirements/operator.txt /opt/build/
RUN /opt/build/bin/pip install --no-cache-dir --require-hashes -r /opt/build/bootstrap.txt \
 && /opt/build/bin/uv pip install --python /opt/budget/venv/bin/python --no-cache --require-hashes -r /opt/build/operator.txt
COPY operator/pyproject.toml /opt/build/operator/pyproject.toml
COPY operator/budget_operator /opt/build/operator/budget_operator
# A third of it is never imported: the second client of Kubernetes, and Compute Engine's services but for nine.
RUN /opt/build/bin/uv pip install --python /opt/budget/venv/bin/python --no-deps --no-index --no-cache /opt/build/operator \
 && cd /opt/budget/venv/lib/python3*/site-packages \
 && rm -r kubernetes/aio \
 && cd google/cloud/compute_v1/services && mkdir /kept \
 && mv __init__.py addresses disks firewalls global_operations instances machine_types region_operations \
       zone_operations zones /kept/ \
 && rm -r ./* && mv /kept/* . \
 && python3 -m compileall -q /opt/budget/venv/lib


# The operator. Its memory: few arenas for its threads, and large answers given back at once.
FROM base AS operator
RUN groupadd --gid 10001 budget \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin budget
COPY --from=operator-build /opt/budget/venv /opt/budget/venv
COPY restart_function /opt/budget/restart_function
ENV PATH=/opt/budget/venv/bin:$PATH \
    BUDGET_FUNCTION_SOURCE=/opt/budget/restart_function \
    MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=131072
LABEL org.opencontainers.image.title=budget-operator \
      org.opencontainers.image.description="Keeps BudgetDeployments served on Spot VMs"
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["budget-operator"]
CMD ["run"]
