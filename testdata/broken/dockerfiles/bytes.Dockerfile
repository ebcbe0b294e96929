FROM base
RUN echo ÿ
