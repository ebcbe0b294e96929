# options: --target 5
FROM base
RUN true
FROM base
