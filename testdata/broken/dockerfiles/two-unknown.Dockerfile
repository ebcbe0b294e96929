FROM base
RUNN true
COPPY f /
WORKDIR /a
