FROM base
RUN --mount=type=secret,id=token,required=true true
