FROM base
- RUN true
