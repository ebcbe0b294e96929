FROM base
ENV =1
