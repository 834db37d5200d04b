# wharf as a container image, for linux/amd64, linux/arm64 and linux/arm/v7:
#
#   docker build -t wharf .
#   docker buildx build --platform linux/amd64,linux/arm64,linux/arm/v7 -t wharf .
#   docker run -d --name wharf --restart unless-stopped --stop-timeout 30 \
#     -p 5000:5000 -p 127.0.0.1:5001:5001 -v wharf:/var/lib/wharf wharf
#
# Configure it by variables (-e WHARF_CACHE__TAG_TTL=5m), or mount a file and name it in WHARF_CONFIG.

# The compiler runs on the machine that builds, whatever the image is for: emulating it takes an hour.
# Debian 12 on both sides, so that the program finds the C library that it was linked with.
FROM --platform=$BUILDPLATFORM rust:1-slim-bookworm AS build
ARG TARGETARCH
ARG TARGETVARIANT
WORKDIR /src
COPY . .
RUN set -eu; \
    case "${TARGETARCH:-$(dpkg --print-architecture)}${TARGETVARIANT:-}" in \
        amd64*)       target=x86_64-unknown-linux-gnu      gcc=x86-64-linux-gnu    libc=amd64 ;; \
        arm64*)       target=aarch64-unknown-linux-gnu     gcc=aarch64-linux-gnu   libc=arm64 ;; \
        armv7|armhf)  target=armv7-unknown-linux-gnueabihf gcc=arm-linux-gnueabihf libc=armhf ;; \
        *) echo "wharf is built for linux/amd64, linux/arm64 and linux/arm/v7" >&2; exit 1 ;; \
    esac; \
    native=$(dpkg --print-architecture); \
    if [ "$libc" = "$native" ]; then packages="gcc libc6-dev"; cc=gcc; \
    else packages="gcc-$gcc libc6-dev-$libc-cross"; cc="$(echo "$gcc" | sed 's/^x86-64/x86_64/')-gcc"; fi; \
    apt-get update; \
    apt-get install -y --no-install-recommends $packages; \
    rustup target add "$target"; \
    name=$(echo "$target" | tr a-z- A-Z_); \
    export "CARGO_TARGET_${name}_LINKER=$cc" "CC_$(echo "$target" | tr - _)=$cc"; \
    cargo build --release --locked --bin wharf --target "$target"; \
    install -D "target/$target/release/wharf" /out/wharf; \
    mkdir /out/data

# The C library, certificates and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/wharf /wharf
COPY --from=build --chown=65532:65532 /out/data /var/lib/wharf
# Only a default, as under systemd: `[cache] dir` in a file still counts.
ENV STATE_DIRECTORY=/var/lib/wharf
# As in systemd/wharf.service: less memory.
ENV MALLOC_ARENA_MAX=2
# The container's own loopback is nobody else's; which of the host's addresses it is seen on, -p says.
ENV WHARF_ADMIN__LISTEN=0.0.0.0:5001
USER 65532:65532
EXPOSE 5000 5001
VOLUME /var/lib/wharf
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/wharf", "healthcheck"]
ENTRYPOINT ["/wharf"]
CMD ["serve"]
