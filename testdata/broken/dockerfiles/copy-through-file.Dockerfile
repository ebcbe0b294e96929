FROM base
COPY f /etc/passwd/x
