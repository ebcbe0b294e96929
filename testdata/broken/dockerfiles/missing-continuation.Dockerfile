FROM base
RUN echo a &&
    echo b
