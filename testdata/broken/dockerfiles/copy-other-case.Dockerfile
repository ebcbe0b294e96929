FROM base
COPY Requirements.TXT /
