# Stands in for prom/alertmanager where no registry can be reached: Debian's build, laid out as that image is.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends prometheus-alertmanager wget \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o nobody -g nogroup /alertmanager /etc/alertmanager \
 && ln -s prometheus-alertmanager /bin/alertmanager
USER nobody
WORKDIR /alertmanager
ENTRYPOINT ["/bin/alertmanager"]
