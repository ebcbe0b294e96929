FROM base
EXPOSE 80/tpc
