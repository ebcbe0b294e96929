FROM base
COPY requirments.txt /
