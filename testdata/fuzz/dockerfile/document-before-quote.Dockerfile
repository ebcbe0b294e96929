FROM base
COPY <<EOF C="x y"
OM base
ENV A
EOF
