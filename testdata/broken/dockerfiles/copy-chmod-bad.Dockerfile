FROM base
COPY --chmod=u=q f /
