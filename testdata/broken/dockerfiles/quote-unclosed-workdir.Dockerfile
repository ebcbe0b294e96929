FROM base
WORKDIR "/a
