FROM base
RUNN true
