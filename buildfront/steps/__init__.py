"""What FROM, COPY, ADD, WORKDIR and RUN do to a root filesystem. They do not know each other or the cache."""
