FROM base
ENV A=<<EOF
text
EOF
