# Stands in for postgres where no registry can be reached: Debian's build, started as that image starts its own.
FROM debian:bookworm-slim
RUN groupadd --gid 999 postgres \
 && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql --no-create-home postgres \
 && apt-get update \
 && apt-get install -y --no-install-recommends postgresql \
 && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/* \
 && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
COPY database.sh /usr/local/bin/
ENTRYPOINT ["sh", "/usr/local/bin/database.sh"]
