FROM base
RUN echo before; false
