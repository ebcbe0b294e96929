FROM base
COPY ["f", "/"
