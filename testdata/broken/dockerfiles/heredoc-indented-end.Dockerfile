FROM base
RUN <<EOF
echo a
  EOF
