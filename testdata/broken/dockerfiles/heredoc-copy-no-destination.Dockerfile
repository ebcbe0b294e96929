FROM base
COPY <<EOF
text
EOF
