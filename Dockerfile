# Every image of the project. Targets: vm, server, registry, localcloud, operator (the default).
# BASE is any Debian 12 with Python 3.11; where no image hub is reachable, one made from Debian's packages alone.
# Nothing here needs BuildKit: Debian's and Ubuntu's engines come without buildx.
# Layers of server, localcloud and operator are the same bytes at every build: each is put together below /image in
# another stage, without times (dev/image/seal.sh), and copied as a whole. See docs/decisions/014-sealed-layers.md.
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
COPY localcloud/vm-image/poweroff /usr/sbin/poweroff
LABEL org.opencontainers.image.title=budget-vm \
      org.opencontainers.image.description="A machine of the local cloud, like Container-Optimized OS"
VOLUME ["/var", "/var/lib/docker"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tini", "--", "/sbin/vm-init"]


# Where environments are put together; what only that needs stays behind.
FROM base AS build
# The second of January 1980: zip files know no earlier time, wherever it is read.
ENV SOURCE_DATE_EPOCH=315619200
# Another value builds all that stands on this again, as if no engine remembered it.
ARG ATTEMPT=1
COPY requirements/bootstrap.txt /build/
RUN python3 -m venv /build/venv \
 && /build/venv/bin/pip install --no-cache-dir --require-hashes -r /build/bootstrap.txt
COPY dev/image/seal.sh /build/


FROM build AS server-build
RUN groupadd --gid 10001 predictor \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin predictor
COPY requirements/server.txt /build/
# pip stays, for custom images
RUN python3 -m venv /opt/budget/venv \
 && /opt/budget/venv/bin/pip uninstall -q -y setuptools \
 && /build/venv/bin/uv pip install --python /opt/budget/venv/bin/python --no-cache --require-hashes -r /build/server.txt
COPY server/pyproject.toml /build/server/pyproject.toml
COPY server/budget_server /build/server/budget_server
RUN /build/venv/bin/uv pip install --python /opt/budget/venv/bin/python --no-deps --no-index --no-cache /build/server \
 && mkdir -p /image/opt /image/var/lib/budgetml \
 && mv /opt/budget /image/opt/ \
 && cp -a --parents /etc/passwd /etc/shadow /etc/group /etc/gshadow /image/ \
 && /build/seal.sh /image


# What runs on the VM: process 1 is budget_server.vm. Custom images are built FROM this one, so it is a whole Debian.
# The health check is for other places than the VM: it asks the front door, which answers over HTTP in any mode.
FROM base AS server
COPY --from=server-build /image/ /
ENV PATH=/opt/budget/venv/bin:$PATH
LABEL org.opencontainers.image.title=budget-server \
      org.opencontainers.image.description="Serves a plain Python predictor over HTTPS with a login" \
      org.opencontainers.image.version=0.1.0
VOLUME ["/var/lib/budgetml"]
EXPOSE 80 443
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1/healthz/live', timeout=4)"]
ENTRYPOINT ["/opt/budget/venv/bin/python", "-m", "budget_server.vm"]


# The registry that local VMs pull from, under the name registry.budget.internal.
FROM base AS registry
RUN apt-get update \
 && apt-get install -y --no-install-recommends docker-registry \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY dev/registry.yml /etc/registry.yml
LABEL org.opencontainers.image.title=budget-registry \
      org.opencontainers.image.description="The registry that VMs of the local cloud pull from"
VOLUME ["/var/lib/registry"]
ENTRYPOINT ["docker-registry", "serve", "/etc/registry.yml"]


FROM build AS minimal-build
COPY dev/image/minimal.sh /build/
RUN /build/minimal.sh /image && /build/seal.sh /image


# What the local cloud and the operator stand on: Python, libraries, certificates and the user budget.
FROM scratch AS minimal
COPY --from=minimal-build /image/ /
ENV LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PATH=/opt/budget/venv/bin:/usr/local/bin:/usr/bin


FROM build AS localcloud-build
COPY requirements/localcloud.txt /build/
RUN python3 -m venv --without-pip /opt/budget/venv \
 && /build/venv/bin/uv pip install --python /opt/budget/venv/bin/python --no-cache --require-hashes -r /build/localcloud.txt
COPY localcloud/pyproject.toml /build/localcloud/pyproject.toml
COPY localcloud/localcloud /build/localcloud/localcloud
RUN /build/venv/bin/uv pip install --python /opt/budget/venv/bin/python --no-deps --no-index --no-cache /build/localcloud \
 && mkdir -p /image/opt \
 && mv /opt/budget /image/opt/ \
 && install -d -o 10001 -g 10001 /image/var/lib/localcloud \
 && /build/seal.sh /image


# The local cloud. It writes below its home alone, where functions are built too; VMs come from DOCKER_HOST.
# Its user may not reach an engine's socket: who mounts one gives the container that socket's user or group.
# Where --listen is not the default, LOCALCLOUD_URL tells the health check and the command line where to ask.
FROM minimal AS localcloud
COPY --from=localcloud-build /image/ /
ENV HOME=/var/lib/localcloud
LABEL org.opencontainers.image.title=localcloud \
      org.opencontainers.image.description="Google's five APIs on one port, with VMs in Docker" \
      org.opencontainers.image.version=0.1.0
USER 10001:10001
WORKDIR /var/lib/localcloud
VOLUME ["/var/lib/localcloud"]
EXPOSE 8085
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["localcloud", "ls"]
ENTRYPOINT ["localcloud"]
CMD ["serve", "--home=/var/lib/localcloud"]


FROM build AS operator-build
COPY requirements/operator.txt /build/
RUN python3 -m venv --without-pip /opt/budget/venv \
 && /build/venv/bin/uv pip install --python /opt/budget/venv/bin/python --no-cache --require-hashes -r /build/operator.txt
COPY operator/pyproject.toml /build/operator/pyproject.toml
COPY operator/budget_operator /build/operator/budget_operator
COPY restart_function /opt/budget/restart_function
COPY operator/deploy/iam /opt/budget/iam
# A third of it is never imported: the second client of Kubernetes, and Compute Engine's services but for nine.
RUN /build/venv/bin/uv pip install --python /opt/budget/venv/bin/python --no-deps --no-index --no-cache /build/operator \
 && cd /opt/budget/venv/lib/python3*/site-packages \
 && rm -r kubernetes/aio \
 && cd google/cloud/compute_v1/services && mkdir /kept \
 && mv __init__.py addresses disks firewalls global_operations instances machine_types region_operations \
       zone_operations zones /kept/ \
 && rm -r ./* && mv /kept/* . \
 && cd / && mkdir -p /image/opt \
 && mv /opt/budget /image/opt/ \
 && /build/seal.sh /image


# The operator. Its memory: few arenas for its threads, and large answers given back at once.
FROM minimal AS operator
COPY --from=operator-build /image/ /
ENV BUDGET_FUNCTION_SOURCE=/opt/budget/restart_function \
    BUDGET_ROLES=/opt/budget/iam \
    MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=131072
LABEL org.opencontainers.image.title=budget-operator \
      org.opencontainers.image.description="Keeps BudgetDeployments served on Spot VMs" \
      org.opencontainers.image.version=0.1.0
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["budget-operator"]
CMD ["run"]
