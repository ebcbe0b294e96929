FROM base
RUN echo a \ # why
    && echo b
