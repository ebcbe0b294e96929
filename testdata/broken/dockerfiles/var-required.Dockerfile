FROM base
ARG VERSION
ENV A=${VERSION:?give a version}
