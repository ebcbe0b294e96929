FROM base
COPY <<EOF /f
${A
EOF
