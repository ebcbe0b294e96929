FROM base
COPY ${DIR /x/
