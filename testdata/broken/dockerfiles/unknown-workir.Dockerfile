FROM base
WORKIR /a
